"""Documents compared: what changed, of what, and what cannot be told."""

from __future__ import annotations

from dataclasses import replace

import pytest

from upshift.errors import UpshiftError
from upshift.record import CallSite, Record, Statement
from upshift.sql.analysis.comparison import compare_documents
from upshift.sql.analysis.document import Choice, Source, document, select
from upshift.sql.analysis.statistics import StatementTable

SOURCE = Source(service="shop", kind="recording", pid=7, since="2026-11-30", seconds=60.0)


def told(*periods):
    """A document of some minutes; each period is the seconds of a statement by its text."""
    table = StatementTable(longest_window=float("inf"))
    for number, period in enumerate(periods):
        for step in range(200):
            record = Record("GET", "/", number * 1_000.0 + step * 5.0)
            record.route = "/orders"
            for sql, seconds in period.items():
                statement = Statement(sql, 0.0, CallSite("shop.py", 7, "orders"))
                statement.execute_seconds = seconds * (1 + step % 7 / 100)
                record.add(statement)
            table.fold(record)
    return document(table, SOURCE, 0.1)


def test_two_documents_tell_what_changed_from_the_first_to_the_second():
    comparison = compare_documents(told({"SELECT a": 0.01}), told({"SELECT a": 0.03, "SELECT b": 0.01}))
    assert {(change.kind, change.text) for change in comparison.changes} == {
        ("slower", "SELECT a"),
        ("new", "SELECT b"),
    }
    slower = next(change for change in comparison.changes if change.kind == "slower")
    assert slower.low <= 3.0 <= slower.high
    assert slower.sites[0].line == 7
    assert slower.routes == {"GET /orders": 200}
    assert (comparison.compared, comparison.notes) == (2, ())


def test_one_document_is_compared_with_itself_by_halves():
    comparison = compare_documents(told({"SELECT a": 0.03}, {"SELECT a": 0.01}))
    assert [change.kind for change in comparison.changes] == ["faster"]
    assert comparison.before.requests + comparison.after.requests == 400


def test_nothing_has_changed_where_nothing_did():
    assert compare_documents(told({"SELECT a": 0.01}), told({"SELECT a": 0.01})).changes == ()


def test_a_document_of_some_statements_only_is_refused():
    whole = told({"SELECT a": 0.01, "SELECT b": 0.01})
    with pytest.raises(UpshiftError, match="1 statements only, of 2"):
        compare_documents(whole, select(whole, Choice(top=1)))


def test_periods_that_are_too_short_are_told():
    short = replace(told({"SELECT a": 0.01}), windows=(5, 5))
    (note,) = compare_documents(short, short).notes
    assert "too short" in note


def test_empty_documents_have_nothing_in_common_and_nothing_to_tell():
    empty = document(StatementTable(), SOURCE, 0.1)
    comparison = compare_documents(empty)
    assert (comparison.changes, comparison.compared, comparison.notes) == ((), 0, ())
