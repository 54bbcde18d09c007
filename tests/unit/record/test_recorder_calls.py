"""The recorder's work for one request, counted in calls, so that a slow-down fails without a clock.

A count that rises on purpose is changed here, with the reason in the changelog.
"""

import sys
from collections import Counter
from contextvars import ContextVar
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

import upshift
from upshift.record import Closing, Keeper, Recorder
from upshift.settings import RecordSettings

OURS = str(Path(upshift.__file__).parent)

HEADERS = [(b"host", b"shop"), (b"accept", b"*/*"), (b"accept-encoding", b"gzip"), (b"cookie", b"a=b")]


async def drop(message):
    pass


async def answer(request):
    return PlainTextResponse("ok")


async def bare(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": b"ok"})


def application(routes=1):
    many = [Route(f"/other/{number}", answer) for number in range(routes - 1)]
    return Starlette(
        routes=[*many, Route("/orders/{order_id}", answer), Mount("/sub", routes=[Route("/x", answer)])]
    )


def scope_of(path):
    return {
        "type": "http",
        "method": "GET",
        "path": path,
        "headers": HEADERS,
        "query_string": b"",
        "root_path": "",
    }


async def calls_of_one_request(app, path="/", on_close=lambda record: None):
    """Python functions and C functions called by Upshift's own code for a request that is not the first."""
    recorder = Recorder(app, on_close, ContextVar("current", default=None))
    for _ in range(3):
        await recorder(scope_of(path), None, drop)
    python, c = Counter(), Counter()

    def count(frame, event, argument):
        if not frame.f_code.co_filename.startswith(OURS):
            return
        if event == "call":
            python[frame.f_code.co_qualname] += 1
        elif event == "c_call":
            c[argument.__qualname__] += 1

    scope = scope_of(path)
    request = recorder(scope, None, drop)
    sys.setprofile(count)
    try:
        with pytest.raises(StopIteration):
            request.send(None)  # nothing waits, so one step runs it all
    finally:
        sys.setprofile(None)
    return python, c


async def test_a_request_costs_six_python_calls():
    python, _ = await calls_of_one_request(bare)
    assert python == {
        "Recorder.__call__": 1,
        "Record.__init__": 1,
        "Recorder.__call__.<locals>.recording_send": 2,
        "_send_last": 1,
        "RouteTemplates.find": 1,
    }


async def test_a_request_costs_at_most_twenty_c_calls():
    _, c = await calls_of_one_request(bare)
    assert sum(c.values()) <= 20, c


async def test_a_route_costs_no_further_python_call():
    python, _ = await calls_of_one_request(application(), "/orders/7")
    assert python.total() == 6


async def test_a_mounted_route_costs_one_more():
    python, _ = await calls_of_one_request(application(), "/sub/x")
    assert python.total() == 7


async def test_the_number_of_routes_costs_nothing():
    few, c_few = await calls_of_one_request(application(1), "/orders/7")
    many, c_many = await calls_of_one_request(application(200), "/orders/7")
    assert (few, c_few) == (many, c_many)


async def test_counting_an_ordinary_request_costs_one_python_call_and_nine_c_calls():
    closing = Closing(Keeper(RecordSettings(sample_rate=0.0)))
    python, c = await calls_of_one_request(bare, on_close=closing.close)
    alone, c_alone = await calls_of_one_request(bare)
    assert python - alone == {"Closing.close": 1}
    assert (c - c_alone).total() <= 9, c - c_alone
