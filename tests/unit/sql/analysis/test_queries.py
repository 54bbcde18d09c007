"""What a running application tells of its statements."""

from __future__ import annotations

import os

import msgspec
import pytest

from upshift.record import Record, Statement
from upshift.sql.analysis.document import Document
from upshift.sql.analysis.queries import Queries
from upshift.sql.analysis.statistics import StatementTable


@pytest.fixture
def table():
    return StatementTable()


def queries(table, drain=lambda: None):
    return Queries(table, drain, service="shop", slow_seconds=0.1)


def fold(table, *texts):
    record = Record("GET", "/", 0.0)
    for sql in texts:
        record.add(Statement(sql, 0.0))
    table.fold(record)


def test_a_process_tells_who_it_is_and_since_when(table):
    source = queries(table).document().source
    assert (source.service, source.kind, source.pid) == ("shop", "process", os.getpid())
    assert source.seconds >= 0
    assert source.since.endswith("+00:00")


def test_what_waits_is_counted_before_it_is_told(table):
    told = queries(table, lambda: fold(table, "SELECT 1")).document()
    assert told.executions == 1


def test_the_query_chooses(table):
    fold(table, "SELECT a", "SELECT a", "SELECT b")
    answer = queries(table).answer({"top": "1", "sort": "count"})
    (row,) = msgspec.json.decode(answer, type=Document).statements
    assert row.text == "SELECT a"


@pytest.mark.parametrize(
    "query", [{"top": "many"}, {"top": "0"}, {"top": "-1"}, {"sort": "name"}, {"top": "1e9"}]
)
def test_what_cannot_be_chosen_is_refused(table, query):
    with pytest.raises(msgspec.ValidationError):
        queries(table).answer(query)


def test_parameters_that_nobody_knows_are_passed_over(table):
    assert queries(table).answer({"new": "1"})
