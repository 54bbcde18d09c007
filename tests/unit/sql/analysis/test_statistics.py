"""What is kept of each kind of statement, and that it is kept in fixed memory."""

from __future__ import annotations

import os
from gc import collect
from weakref import ref

import pytest

from upshift.record import CallSite, Record, Statement
from upshift.sql.analysis import statistics as module
from upshift.sql.analysis.statistics import MAX_ORIGINS, StatementTable


class Told(Statement):
    """A statement of which it can be told whether it is still there."""

    __slots__ = ("__weakref__",)


def statement(sql="SELECT a FROM t WHERE id = ?", seconds=0.001, *, line=1, rows=None, parameters=None):
    made = Told(sql, 0.0, None if line is None else CallSite("shop/orders.py", line, "list_orders"))
    made.execute_seconds = seconds
    made.rows = rows
    made.parameters = parameters
    return made


def record(*statements, route="/orders"):
    made = Record("GET", "/orders", 0.0)
    made.route = route
    for one in statements:
        made.add(one)
    return made


@pytest.fixture
def table():
    return StatementTable()


def test_an_empty_table_has_no_rows(table):
    table.fold(record())
    assert table.rows() == ()


def test_executions_that_differ_in_values_are_one_row(table):
    table.fold(record(statement("SELECT a FROM t WHERE id = 1"), statement("SELECT a FROM t WHERE id = 2")))
    (row,) = table.rows()
    assert row.digest.text == "SELECT a FROM t WHERE id = ?"
    assert row.seconds.count == 2


def test_records_add_up(table):
    for _ in range(3):
        table.fold(record(statement(seconds=0.25, rows=2)))
    (row,) = table.rows()
    assert (row.seconds.count, row.seconds.sum, row.rows) == (3, 0.75, 6)


def test_time_is_that_of_executing_and_fetching(table):
    one = statement(seconds=0.25)
    one.fetch_seconds = 0.5
    table.fold(record(one))
    assert table.rows()[0].seconds.sum == 0.75


def test_rows_that_the_driver_did_not_tell_count_as_none(table):
    table.fold(record(statement(rows=None), statement(rows=5)))
    assert table.rows()[0].rows == 5


def test_the_most_expensive_kind_comes_first(table):
    table.fold(record(*[statement("SELECT often", 0.2)] * 10, statement("SELECT once", 1.0)))
    assert [row.digest.text for row in table.rows()] == ["SELECT often", "SELECT once"]


def test_text_and_parameters_are_those_of_the_slowest_execution(table):
    table.fold(record(statement("SELECT 1", 0.1, parameters=(1,))))
    table.fold(
        record(statement("SELECT 2", 0.3, parameters=(2,)), statement("SELECT 3", 0.2, parameters=(3,)))
    )
    (row,) = table.rows()
    assert (row.sql, row.parameters) == ("SELECT 2", (2,))


def test_an_execution_that_took_no_time_leaves_its_text(table):
    table.fold(record(statement("SELECT 1", 0.0, parameters=(1,))))
    (row,) = table.rows()
    assert (row.sql, row.parameters) == ("SELECT 1", (1,))


def test_the_main_site_is_the_one_of_most_executions(table):
    table.fold(record(statement(line=1, seconds=9.0), statement(line=2), statement(line=2)))
    (row,) = table.rows()
    assert row.site.line == 2
    assert {site.line: count for site, count in row.sites.items()} == {1: 1, 2: 2}


def test_without_an_application_frame_there_is_no_site(table):
    table.fold(record(statement(line=None)))
    (row,) = table.rows()
    assert (row.site, row.sites) == (None, {})


def test_routes_are_named_as_operations(table):
    for route in ("/orders", "/orders", "/orders/{order_id}", None):
        table.fold(record(statement(), route=route))
    routes = {"GET /orders": 2, "GET /orders/{order_id}": 1, "GET (no route)": 1}
    assert table.rows()[0].routes == routes


def test_sites_and_routes_are_bounded_and_known_sites_go_on_counting(table):
    for number in range(1, 101):
        table.fold(record(statement(line=number), statement(line=1), route=f"/{number}"))
    (row,) = table.rows()
    assert (len(row.sites), len(row.routes)) == (MAX_ORIGINS, MAX_ORIGINS)
    assert row.sites[row.site] == 101
    assert row.seconds.count == 200


def test_failed_executions_are_told_by_what_failed_for_so_many_kinds_of_failure(table):
    for number in range(100):
        failed = statement()
        failed.error = "Timeout" if number % 2 else f"Error{number}"
        table.fold(record(failed, statement()))
    (row,) = table.rows()
    assert (row.failed, row.errors["Timeout"], len(row.errors)) == (100, 50, MAX_ORIGINS)


def test_an_execution_at_the_threshold_is_slow():
    table = StatementTable(slow_seconds=0.1)
    table.fold(record(statement(seconds=0.0999), statement(seconds=0.1), statement(seconds=5.0)))
    assert table.rows()[0].slow == 2


def test_statements_that_a_full_record_only_counted_are_untold(table):
    full = record(statement())
    full.statements_dropped = 7
    table.fold(full)
    assert (table.rows()[0].seconds.count, table.untold) == (1, 7)


def test_what_came_when_is_kept_by_windows(table):
    for started in (0.0, 0.5, 3.0):
        one = record(statement(), statement())
        one.started = started
        table.fold(one)
    digest = table.rows()[0].digest.id
    assert [window.records for window in table.windows.all()] == [2, 0, 0, 1]
    assert table.windows.all()[0].usage[digest].count == 4
    assert table.records == 3


def test_nothing_is_lost_when_windows_are_merged_while_statements_wait(table):
    for started in range(100):
        one = record(statement(), statement())
        one.started = float(started)
        table.fold(one)
    digest = table.rows()[0].digest.id
    assert sum(window.usage[digest].count for window in table.windows.all()) == 200


def test_statements_that_wait_are_bounded(table, monkeypatch):
    monkeypatch.setattr(module, "MAX_WAITING", 10)
    statements = [statement() for _ in range(25)]
    for each in statements:
        table.fold(record(each))
    alive = [ref(each) for each in statements]
    del statements, each
    collect()
    assert sum(each() is not None for each in alive) < 10
    assert table.rows()[0].seconds.count == 25


def test_nothing_waits_any_more_when_it_was_settled(table):
    one = statement()
    table.fold(record(one))
    alive = ref(one)
    del one
    table.settle()
    collect()
    assert alive() is None
    assert table.rows()[0].seconds.count == 1


def test_digests_are_bounded_and_further_executions_are_counted(table, monkeypatch):
    monkeypatch.setattr(module, "MAX_DIGESTS", 10)
    for number in range(15):
        one = statement(f"SELECT a FROM t{number}")
        table.fold(record(one, one))
    assert len(table.rows()) == 10
    assert table.untold == 10


def test_a_full_table_goes_on_counting_what_it_knows(table, monkeypatch):
    monkeypatch.setattr(module, "MAX_DIGESTS", 1)
    table.fold(record(statement("SELECT a"), statement("SELECT b"), statement("SELECT a")))
    (row,) = table.rows()
    assert (row.seconds.count, table.untold) == (2, 1)


def test_a_forked_child_begins_with_nothing(table):
    table.fold(record(statement()))
    reading, writing = os.pipe()
    if not os.fork():
        os.write(writing, f"{len(table.rows())} {table.records} {len(table.windows.all())}".encode())
        os._exit(0)
    os.wait()
    assert os.read(reading, 100) == b"0 0 0"
    os.close(reading)
    os.close(writing)
    assert len(table.rows()) == 1


def test_two_tables_know_nothing_of_each_other():
    one, other = StatementTable(), StatementTable()
    one.fold(record(statement()))
    assert other.rows() == ()
