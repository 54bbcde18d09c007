"""Where an answer's time went, told to who asks."""

import re

import pytest

from upshift.record import Record, Statement
from upshift.telemetry.server_timing import server_timing, timing_headers

_ENTRY = re.compile(r'(\w+);dur=(\d+\.\d)(?:;desc="[^"]*")?')


@pytest.fixture
def record():
    record = Record("GET", "/orders", 0.0)
    record.first_byte_seconds = 0.1
    for _ in range(2):
        statement = Statement("SELECT 1", 0.0)
        statement.execute_seconds, statement.fetch_seconds = 0.01, 0.005
        record.add(statement)
    record.pool_wait_seconds, record.queue_seconds, record.cache_seconds = 0.002, 0.003, 0.001
    return record


def entries(value):
    return {name: float(milliseconds) for name, milliseconds in _ENTRY.findall(value)}


def test_the_entries_add_up_to_the_whole(record):
    assert entries(server_timing(record, 0.1)) == {"db": 30.0, "cache": 1.0, "queue": 5.0, "app": 64.0}


def test_statements_at_the_same_time_do_not_make_the_rest_negative(record):
    assert entries(server_timing(record, 0.01))["app"] == 0.0


def test_statements_beyond_the_record_are_counted(record):
    record.statements_dropped = 5
    assert 'desc="7 statements"' in server_timing(record, 0.1)


def test_it_is_off_without_a_function():
    assert timing_headers("off") is None


@pytest.mark.parametrize(
    ("mode", "request_headers", "is_told"),
    [
        ("asked", {}, False),
        ("asked", {b"x-server-timing": b"1"}, True),
        ("always", {}, True),
    ],
)
def test_it_is_told_always_or_to_who_asks(record, mode, request_headers, is_told):
    headers = timing_headers(mode)(record, request_headers)
    assert [name for name, _ in headers] == ([b"server-timing"] if is_told else [])
