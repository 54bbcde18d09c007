"""The document of statements: what it tells, in which order, and that it is read back as it was."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from upshift.record import CallSite, Record, Statement
from upshift.sql.analysis.document import (
    SORTS,
    Choice,
    Document,
    Source,
    document,
    encode,
    select,
    windows_of,
)
from upshift.sql.analysis.statistics import StatementTable

SOURCE = Source(service="shop", kind="process", pid=7, since="2026-11-30T18:00:00Z", seconds=60.0)


def fold(table, sql, *times, route="/orders", started=0.0, line=1, rows=1, error=None, file="/srv/shop/a.py"):
    record = Record("GET", "/", started)
    record.route = route
    for seconds in times:
        statement = Statement(sql, started, CallSite(file, line, "list_orders"))
        statement.execute_seconds, statement.rows, statement.error = seconds, rows, error
        record.add(statement)
    table.fold(record)


@pytest.fixture
def table():
    table = StatementTable(slow_seconds=0.5)
    fold(table, "SELECT often", *[0.1] * 20, rows=2)
    fold(table, "SELECT once", 3.0, route="/reports", line=9)
    fold(table, "UPDATE t SET a = 1", 0.2, 0.2, rows=500, error="IntegrityError", started=9.0)
    return table


def test_a_row_tells_what_its_statement_cost(table):
    row = document(table, SOURCE, 0.5).statements[0]
    assert (row.text, row.count, row.slow, row.failed) == ("SELECT once", 1, 1, 0)
    assert row.seconds.total == row.seconds.max == 3.0
    assert row.share == pytest.approx(3.0 / 5.4)
    assert row.routes == {"GET /reports": 1}


def test_the_whole_is_told_beside_the_rows(table):
    told = select(document(table, SOURCE, 0.5), Choice(top=1))
    assert (len(told.statements), told.digests, told.executions) == (1, 3, 23)
    assert told.seconds == pytest.approx(5.4)


@pytest.mark.parametrize(
    ("sort", "first"),
    [
        ("total", "SELECT once"),
        ("mean", "SELECT once"),
        ("p95", "SELECT once"),
        ("count", "SELECT often"),
        ("rows", "UPDATE t SET a = ?"),
        ("errors", "UPDATE t SET a = ?"),
    ],
)
def test_rows_are_sorted_by_what_was_asked_for(table, sort, first):
    told = select(document(table, SOURCE, 0.5), Choice(sort=sort))
    assert told.statements[0].text == first
    values = [SORTS[sort](row) for row in told.statements]
    assert values == sorted(values, reverse=True)


@pytest.mark.parametrize("route", ["/reports", "GET /reports"])
def test_a_route_chooses_what_it_sends(table, route):
    told = select(document(table, SOURCE, 0.5), Choice(route=route))
    assert [row.text for row in told.statements] == ["SELECT once"]


def test_an_unknown_route_sends_nothing(table):
    assert select(document(table, SOURCE, 0.5), Choice(route="/nowhere")).statements == ()


def test_call_sites_are_relative_to_the_folder(table):
    fold(table, "SELECT elsewhere", 9.0, file="/opt/plugin.py")
    rows = {row.text: row.sites[0].file for row in document(table, SOURCE, 0.5, "/srv").statements}
    assert (rows["SELECT once"], rows["SELECT elsewhere"]) == ("shop/a.py", "/opt/plugin.py")


def test_windows_are_those_of_the_table(table):
    told = windows_of(document(table, SOURCE, 0.5))
    kept = table.windows.all()
    assert [window.records for window in told] == [window.records for window in kept]
    for one, other in zip(told, kept, strict=True):
        usages = [{k: (u.count, u.logs) for k, u in w.usage.items()} for w in (one, other)]
        assert usages[0] == usages[1]


def test_an_empty_table_is_an_empty_document():
    told = document(StatementTable(), SOURCE, 0.5)
    assert (told.statements, told.windows, told.executions) == ((), (), 0)
    assert windows_of(told) == ()


def test_times_that_are_none_are_told_as_zero():
    table = StatementTable()
    fold(table, "SELECT 1", float("nan"))
    assert document(table, SOURCE, 0.5).statements[0].seconds.total == 0.0


@given(st.text(), st.text(max_size=20), st.floats(0, 1e3), st.integers(0, 10**12))
def test_a_document_is_read_back_as_it_was(sql, route, seconds, rows):
    table = StatementTable()
    fold(table, sql, seconds, route=route, rows=rows)
    told = document(table, SOURCE, 0.5)
    assert msgspec.json.decode(encode(told), type=Document) == told


def test_what_is_no_unicode_is_told_all_the_same():
    table = StatementTable()
    fold(table, 'SELECT "\udcff" FROM t', 0.1)
    assert msgspec.json.decode(encode(document(table, SOURCE, 0.5)), type=Document).digests == 1
