from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upshift.sql.catalog import TableName
from upshift.sql.statement import MAX_LENGTH, UnreadableStatementError, read_statement


def tables(sql: str, dialect="postgresql") -> set[str]:
    return {str(name) for name in read_statement(sql, dialect).tables}


def test_the_tables_of_joins_and_subqueries_are_named():
    sql = "SELECT * FROM a JOIN b ON a.id = b.a_id WHERE EXISTS (SELECT 1 FROM c WHERE c.id = a.c_id)"
    assert tables(sql) == {"a", "b", "c"}


def test_a_common_table_expression_is_no_table():
    assert tables("WITH recent AS (SELECT * FROM orders) SELECT * FROM recent") == {"orders"}


def test_a_schema_is_kept():
    assert read_statement("SELECT * FROM sales.orders", "postgresql").tables == {TableName("orders", "sales")}


def test_postgres_folds_unquoted_names_and_keeps_quoted_ones():
    assert tables('SELECT * FROM Orders JOIN "Items" ON true') == {"orders", "Items"}


def test_the_tables_of_an_update_and_a_delete_are_named():
    assert tables("UPDATE a SET x = $1 FROM b WHERE a.id = b.a_id") == {"a", "b"}
    assert tables("DELETE FROM a USING b WHERE a.id = b.a_id") == {"a", "b"}


@pytest.mark.parametrize(
    ("sql", "is_select"),
    [
        ("SELECT 1", True),
        ("(SELECT 1)", True),
        ("SELECT a FROM t UNION SELECT b FROM u", True),
        ("WITH x AS (SELECT 1) SELECT * FROM x", True),
        ("UPDATE t SET a = 1", False),
        ("DELETE FROM t", False),
        ("WITH gone AS (DELETE FROM t RETURNING *) SELECT * FROM gone", False),
    ],
)
def test_a_statement_that_writes_anywhere_is_no_select(sql, is_select):
    assert read_statement(sql, "postgresql").is_select is is_select


def test_numbered_placeholders_without_spaces_are_read():
    assert tables("SELECT * FROM t WHERE (a, b) IN (($1,$2),($3::int,$4))") == {"t"}


@pytest.mark.parametrize(
    "sql",
    [
        "",
        "   ",
        "BEGIN",
        "VACUUM",
        "INSERT INTO t VALUES (1)",
        "CREATE TABLE t (a int)",
        "EXPLAIN ANALYZE DELETE FROM t",
        "SELECT * INTO copy FROM t",
        "SELECT FROM WHERE",
        "SELECTED",
        "SELECT (" * 3000,
    ],
)
def test_what_is_no_single_query_is_refused(sql):
    with pytest.raises(UnreadableStatementError):
        read_statement(sql, "postgresql")


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1; DROP TABLE t",
        "SELECT 1;; DROP TABLE t",
        "SELECT 1 -- ; DROP TABLE t",
        "SELECT $$;$$",
        "SELECT 1 /* /* */ ; DROP TABLE t; -- */",
    ],
)
def test_a_semicolon_inside_is_refused_whatever_it_may_mean(sql):
    with pytest.raises(UnreadableStatementError, match="semicolon"):
        read_statement(sql, "postgresql")


def test_a_semicolon_at_the_end_is_taken():
    assert tables("SELECT * FROM t ; ") == {"t"}


def test_a_very_long_statement_is_refused():
    with pytest.raises(UnreadableStatementError, match="longer"):
        read_statement("SELECT " + "1," * MAX_LENGTH, "postgresql")


@given(st.text(), st.sampled_from(["postgresql", "sqlite"]))
def test_any_text_is_read_or_refused(text, dialect):
    for sql in (text, f"SELECT {text}", f"SELECT * FROM t WHERE {text}", f"DELETE {text}", f"WITH {text}"):
        with suppress(UnreadableStatementError):
            read_statement(sql, dialect)
