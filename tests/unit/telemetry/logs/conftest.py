"""An open request, and lines of every format."""

import json
import logging
from contextvars import ContextVar

import pytest

from upshift.record import Record, Statement
from upshift.telemetry.logs.console import ConsoleLines
from upshift.telemetry.logs.event import event_of
from upshift.telemetry.logs.json_lines import ECS, PLAIN, JsonLines
from upshift.telemetry.logs.values import Values

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def make_closed(path="/orders/7", **facts):
    record = Record("GET", path, 0.0)
    record.route, record.status, record.seconds = "/orders/{order_id}", 200, 0.0125
    record.request_id = record.trace_id = TRACE
    record.span_id = SPAN
    for name, value in facts.items():
        setattr(record, name, value)
    return record


def make_ran(execute_seconds, fetch_seconds=0.0):
    statement = Statement("SELECT 1", 0.0)
    statement.execute_seconds, statement.fetch_seconds = execute_seconds, fetch_seconds
    return statement


def make_logged(message="hello", *args, level="INFO", **facts):
    return logging.makeLogRecord(
        {"name": "shop", "levelname": level, "msg": message, "args": args, "created": 1_000_000_000.25}
        | facts
    )


@pytest.fixture
def closed():
    """Makes a record as the recorder leaves it."""
    return make_closed


@pytest.fixture
def ran():
    """Makes a statement."""
    return make_ran


@pytest.fixture
def logged():
    """Makes a record of the standard library."""
    return make_logged


@pytest.fixture
def current():
    return ContextVar("current", default=None)


@pytest.fixture
def fields(current):
    """The fields of the line of a record of the standard library."""

    def write(record, names=PLAIN, redact=("password",)):
        line = JsonLines(names, "shop", current, Values(redact)).line(event_of(record))
        assert line.count(b"\n") == 1
        return json.loads(line)

    return write


@pytest.fixture
def ecs_fields(fields):
    return lambda record: fields(record, ECS)


@pytest.fixture
def console(current):
    """The console's lines of a record of the standard library, as text."""

    def write(record, *, colour=False):
        lines = ConsoleLines(current, Values(["password"]), colour=colour)
        return lines.line(event_of(record)).decode()

    return write
