"""Records as an application leaves them, and recordings of them."""

from __future__ import annotations

from contextvars import ContextVar
from pathlib import Path

import pytest

from upshift.record import CallSite, Record, Statement
from upshift.record.recording import Recording, RecordingWriter
from upshift.sql import Capture

HERE = str(Path.cwd())


def make_statement(sql="SELECT a FROM t WHERE id = ?", seconds=0.01, line=7, **fields):
    statement = Statement(sql, 100.5, CallSite(f"{HERE}/shop/orders.py", line, "list_orders"))
    statement.execute_seconds = seconds
    for name, value in fields.items():
        setattr(statement, name, value)
    return statement


def make_record(*statements, **fields):
    record = Record("GET", "/orders/7", 100.0)
    record.route, record.status, record.seconds = "/orders/{order_id}", 200, 0.5
    record.statements = list(statements)
    record.is_closed = True
    for name, value in fields.items():
        setattr(record, name, value)
    return record


@pytest.fixture
def statement():
    return make_statement


@pytest.fixture
def record():
    return make_record


@pytest.fixture
def path(tmp_path):
    return tmp_path / "shop.recording"


@pytest.fixture
def write(path):
    """Write records, and return the recording of them."""

    def write_records(*records, **arguments):
        with RecordingWriter(path, **arguments) as recording:
            for each in records:
                recording.take(each)
        return Recording(path)

    return write_records


@pytest.fixture
def observed():
    """Observe some work on an engine, and return its record."""

    def observe(engine, work):
        current = ContextVar("current", default=None)
        capture = Capture([engine], current)
        record = make_record()
        record.is_closed = False
        token = current.set(record)
        try:
            work()
        finally:
            current.reset(token)
            capture.close()
        return record

    return observe
