"""The generator's work for one request, counted in calls, so that a slow-down fails without a clock.

A count that rises on purpose is changed here, with the reason in the changelog.
"""

import sys
from collections import Counter
from pathlib import Path

import pytest

import upshift
from upshift.load import ClosedPlan, OpenPlan, Request
from upshift.load.closed_model import ClosedSession
from upshift.load.connection import Connection
from upshift.load.open_model import OpenSession
from upshift.load.request import aim

OURS = str(Path(upshift.__file__).parent)
ANSWER = (
    b"HTTP/1.1 200 OK\r\ndate: Mon, 01 Jan 2026 00:00:00 GMT\r\nserver: uvicorn\r\ncontent-length: 2\r\n"
    b"content-type: text/plain\r\n\r\nok"
)


class Transport:
    def write(self, data):
        pass


def connected(session):
    connection = Connection(session)
    connection.connection_made(Transport())
    session.ready(connection, 0.0)
    return connection


def calls(act):
    """Python and C functions called by Upshift's own code."""
    act()
    python, c = Counter(), Counter()

    def count(frame, event, argument):
        if not frame.f_code.co_filename.startswith(OURS):
            return
        if event == "call":
            python[frame.f_code.co_qualname] += 1
        elif event == "c_call":
            c[argument.__qualname__] += 1

    sys.setprofile(count)
    try:
        act()
    finally:
        sys.setprofile(None)
    return python, c


@pytest.fixture
def closed():
    target, requests = aim("http://localhost", [Request("GET", "/a"), Request("GET", "/b")])
    session = ClosedSession(target, ClosedPlan(count=1_000), requests)
    session._until = float("inf")
    return connected(session)


def test_a_request_of_the_closed_model_costs_eleven_python_calls(closed):
    python, _ = calls(lambda: closed.data_received(ANSWER))
    assert python == {
        "Connection.data_received": 1,
        "Connection.on_headers_complete": 1,
        "Connection.on_message_complete": 1,
        "Connection._answered": 1,
        "Tally.answered": 1,
        "Connection._expect_answer": 1,
        "ClosedSession.ready": 1,
        "ClosedSession._exhausted": 1,
        "ClosedSession._next": 1,
        "_draw": 1,
        "Connection.send": 1,
    }


def test_a_request_of_the_closed_model_costs_at_most_eight_c_calls(closed):
    _, c = calls(lambda: closed.data_received(ANSWER))
    assert c.total() <= 8, c


def test_the_number_of_headers_costs_nothing(closed):
    answer = ANSWER.replace(b"server: uvicorn\r\n", b"server: uvicorn\r\n" * 50)
    assert calls(lambda: closed.data_received(ANSWER)) == calls(lambda: closed.data_received(answer))


def test_a_request_of_the_open_model_costs_three_calls_to_send_and_seven_to_finish():
    target, requests = aim("http://localhost", [Request("GET", "/a")])
    session = OpenSession(target, OpenPlan(rate=1, seconds=1), requests)
    session._due = 2.0  # more is to come
    connection = connected(session)

    def send_and_finish():
        session._dispatch(1.0)
        connection.data_received(ANSWER)

    python, _ = calls(send_and_finish)
    assert python == {
        "OpenSession._dispatch": 1,
        "_draw": 1,
        "Connection.send": 1,
        "Connection.data_received": 1,
        "Connection.on_headers_complete": 1,
        "Connection.on_message_complete": 1,
        "Connection._answered": 1,
        "Tally.answered": 1,
        "Connection._expect_answer": 1,
        "OpenSession.ready": 1,
    }
