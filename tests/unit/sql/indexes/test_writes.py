from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upshift.sql.catalog import Table, TableName
from upshift.sql.indexes.index import Condition, Index, IndexColumn
from upshift.sql.indexes.writes import Write, read_write

JOB = Table("job", "public", {}, ((IndexColumn("id"),), (IndexColumn("owner"),)), rows=9_000)
STATE = Index("postgresql", "job", (IndexColumn("state"),))


@pytest.mark.parametrize(
    ("sql", "write"),
    [
        ("INSERT INTO job (a) VALUES ($1)", Write(TableName("job"), "insert")),
        ("INSERT INTO s.job SELECT * FROM t", Write(TableName("job", "s"), "insert")),
        (
            "UPDATE Job SET State = $1, n = n + 1",
            Write(TableName("job"), "update", frozenset({"state", "n"})),
        ),
        ("DELETE FROM job WHERE id = $1", Write(TableName("job"), "delete")),
    ],
)
def test_what_a_statement_writes(sql, write):
    assert read_write(sql, "postgresql") == write


@pytest.mark.parametrize(
    "sql",
    ["SELECT 1", "", "COMMIT", "UPDATE", "INSERT INTO", "TRUNCATE job", "DROP TABLE job", "x" * 100_000],
)
def test_what_writes_no_rows(sql):
    assert read_write(sql, "postgresql") is None


@given(st.text(max_size=60))
def test_any_text_is_read_or_left(text):
    for start in ("", "INSERT INTO ", "UPDATE job SET ", "DELETE FROM "):
        read_write(start + text, "sqlite")


def entries(write: Write, index: Index = STATE, others: int = 2) -> float:
    return write.entries(index, JOB, others)


def test_a_row_inserted_has_an_entry_and_one_deleted_has_none():
    assert entries(Write(TableName("job"), "insert")) == 1
    assert entries(Write(TableName("job"), "delete")) == 0


def test_an_update_of_an_indexed_column_takes_hot_from_all_indexes():
    assert entries(Write(TableName("job"), "update", frozenset({"state"}))) == 3


def test_an_update_of_other_columns_costs_nothing():
    assert entries(Write(TableName("job"), "update", frozenset({"note"}))) == 0


def test_an_update_that_is_not_hot_anyway_costs_an_entry():
    assert entries(Write(TableName("job"), "update", frozenset({"owner"}))) == 1


@pytest.mark.parametrize(
    "index",
    [
        Index("postgresql", "job", (IndexColumn("run_at"),), include=("state",)),
        Index("postgresql", "job", (IndexColumn("run_at"),), where=(Condition("state", "=", "new"),)),
        Index("postgresql", "job", (IndexColumn("state", function="lower"),)),
    ],
    ids=str,
)
def test_what_is_included_computed_or_asked_for_counts_as_indexed(index):
    assert entries(Write(TableName("job"), "update", frozenset({"state"})), index) == 3


def test_sqlite_writes_only_the_indexes_of_what_changed():
    index = Index("sqlite", "job", (IndexColumn("state"),))
    assert entries(Write(TableName("job"), "update", frozenset({"state"})), index) == 1
    assert entries(Write(TableName("job"), "update", frozenset({"owner"})), index) == 0
