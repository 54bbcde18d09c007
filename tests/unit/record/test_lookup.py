"""Which request something belongs to."""

from contextvars import ContextVar

import pytest
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.testclient import TestClient

from upshift.record import Record, Recorder, SocketRecorder, find_record


async def fail(*arguments):
    raise KeyError("a fault of the application's")


@pytest.fixture
def current():
    return ContextVar("current", default=None)


async def exception_of(recorder):
    async def drop(message):
        pass

    with pytest.raises(KeyError) as raised:
        await recorder({"type": "http", "method": "GET", "path": "/", "headers": []}, None, drop)
    return raised.value


def test_the_open_one_comes_first(current):
    record = Record("GET", "/", 0.0)
    current.set(record)
    assert find_record(current) is find_record(current, KeyError()) is record


def test_outside_of_a_request_there_is_none(current):
    assert find_record(current) is None
    assert find_record(current, KeyError()) is None


async def test_an_exception_leads_to_the_request_that_it_left(current):
    records = []
    exception = await exception_of(Recorder(fail, records.append, current))
    assert current.get() is None
    assert find_record(current, exception) is records[0]


async def test_an_exception_leads_to_no_request_of_another_application(current):
    exception = await exception_of(Recorder(fail, lambda _: None, ContextVar("other", default=None)))
    assert find_record(current, exception) is None


async def test_of_nested_requests_of_one_application_the_innermost_is_found(current):
    inner, outer = [], []
    recorder = Recorder(Recorder(fail, inner.append, current), outer.append, current)
    assert find_record(current, await exception_of(recorder)) is inner[0]


def test_an_exception_leads_to_the_connection_that_it_left(current):
    closed = []
    app = SocketRecorder(Starlette(routes=[WebSocketRoute("/", fail)]), closed.append, current)
    with pytest.raises(KeyError) as raised, TestClient(app).websocket_connect("/"):
        pass
    assert find_record(current, raised.value) is closed[0]
