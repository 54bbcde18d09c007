from __future__ import annotations

from upshift.record import Record, Statement
from upshift.sql.analysis.statistics import StatementTable
from upshift.sql.indexes.constants import constants_of
from upshift.sql.indexes.workload import (
    MAX_SAMPLES,
    MAX_STATEMENTS,
    MAX_VARIANTS,
    Work,
    as_workload,
    observed_workload,
)
from upshift.sql.placeholders import Sample


def record(*statements: tuple[str, object, float]) -> Record:
    made = Record("GET", "/jobs", 0.0)
    for sql, parameters, seconds in statements:
        statement = Statement(sql, 0.0)
        statement.parameters = parameters
        statement.execute_seconds = seconds
        statement.rows = 2
        made.add(statement)
    return made


def observed(*records: Record) -> list[Work]:
    table = StatementTable()
    for each in records:
        table.fold(each)
    return observed_workload(table.rows(), records)


def test_calls_rows_and_parameters_are_gathered():
    sql = "SELECT * FROM job WHERE id = %(id)s"
    (work,) = observed(record((sql, {"id": 1}, 0.1), (sql, {"id": 2}, 0.3)), record((sql, {"id": 1}, 0.2)))
    assert (work.calls, work.rows) == (3, 2.0)
    assert work.samples == ({"id": 2}, {"id": 1})


def test_without_parameters_a_statement_is_planned_once():
    (work,) = observed(record(("SELECT 1", None, 0.1)))
    assert work.samples == ()
    assert work.variants == (Sample("SELECT 1"),)


def test_parameters_are_bounded():
    sql = "SELECT * FROM job WHERE id = %(id)s"
    (work,) = observed(record(*((sql, {"id": n}, 0.1) for n in range(100))))
    assert len(work.samples) == MAX_SAMPLES
    assert len(work.variants) == MAX_VARIANTS


def test_equal_texts_are_one_statement():
    (work,) = as_workload(
        [Sample("SELECT %(a)s", {"a": 1}), Work("SELECT %(a)s", ({"a": 1}, {"a": 2}), 5, 1)]
    )
    assert work == Work("SELECT %(a)s", ({"a": 1}, {"a": 2}), 6, 1)


def test_statements_are_bounded():
    assert len(as_workload(Sample(f"SELECT {n}") for n in range(2 * MAX_STATEMENTS))) == MAX_STATEMENTS


SQL = "SELECT * FROM job WHERE state = %(state)s AND owner = %(owner)s AND state <> %(state)s"


def test_what_was_the_same_in_every_call_is_a_constant():
    samples = ({"state": "new", "owner": 1}, {"state": "new", "owner": 2})
    assert constants_of(Work(SQL, samples, calls=7), "pyformat") == {"p1": "new"}


def test_what_was_sent_once_is_none():
    assert constants_of(Work(SQL, ({"state": "new", "owner": 1},), calls=1), "pyformat") == {}


def test_in_every_style_of_placeholders():
    samples = (("new", 1), ("new", 2))
    assert constants_of(Work("SELECT $1, $2", samples, calls=2), "numeric_dollar") == {"p1": "new"}
    assert constants_of(Work("SELECT %s, '%%', %s", samples, calls=2), "format") == {"p1": "new"}


def test_parameters_that_do_not_fit_the_text_are_none():
    assert constants_of(Work(SQL, ((), 5, "x", {"other": 1}), calls=9), "pyformat") == {}
    assert constants_of(Work("SELECT %s, %s", ((1,), (1,)), calls=9), "format") == {"p1": 1}
