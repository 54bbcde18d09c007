from __future__ import annotations

import sqlite3

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upshift.errors import IndexAdviceError
from upshift.sql.indexes.index import NAME_PREFIX, Index, IndexColumn, covers, index_from_dict

names = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=80)


def index(*columns: str, table: str = "product", dialect="postgresql", schema: str | None = None) -> Index:
    return Index(dialect, table, tuple(map(IndexColumn, columns)), schema)


def test_a_postgres_index_is_created_and_dropped_concurrently():
    assert index("category_id", "price").create_sql == (
        "CREATE INDEX CONCURRENTLY upshift_product_category_id_price_8e997392 ON product (category_id, price)"
    )
    assert index("category_id", "price").undo_sql == (
        "DROP INDEX CONCURRENTLY IF EXISTS upshift_product_category_id_price_8e997392"
    )


def test_a_sqlite_index_is_created_and_dropped_plainly():
    assert index("a", dialect="sqlite").create_sql == "CREATE INDEX upshift_product_a_129bb1d4 ON product (a)"
    assert index("a", dialect="sqlite").undo_sql == "DROP INDEX IF EXISTS upshift_product_a_129bb1d4"


def test_direction_nulls_and_operator_class_are_part_of_the_index():
    columns = (IndexColumn("name", operator_class="text_pattern_ops"), IndexColumn("ts", True, False))
    assert Index("postgresql", "t", columns).create_sql.endswith(
        "ON t (name text_pattern_ops, ts DESC NULLS LAST)"
    )


def test_names_that_need_quotes_are_quoted():
    sql = index('pri"ce', table="Order", schema="my shop").create_sql
    assert sql.endswith('ON "my shop"."Order" ("pri""ce")')


def test_a_percent_sign_in_a_name_stays_single():
    assert index("50%").create_sql.endswith('("50%")')


def test_an_index_has_the_same_name_in_every_schema():
    assert index("a", schema="north").name == index("a", schema="south").name == index("a").name


def test_indexes_that_differ_in_direction_have_different_names():
    assert index("a").name != Index("postgresql", "product", (IndexColumn("a", descending=True),)).name


def test_an_index_names_each_column_once():
    with pytest.raises(ValueError, match="once"):
        index("a", "a")


@given(names, st.lists(names, min_size=1, max_size=4, unique=True))
def test_every_name_fits_postgres_and_needs_no_quotes(table, columns):
    name = index(*columns, table=table).name
    assert len(name) <= 63
    assert name.startswith(NAME_PREFIX)
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789_")


@given(st.lists(names, min_size=2, max_size=4, unique_by=str.lower))
def test_any_names_make_sql_that_does_what_it_says(words):
    table, *columns = (word.replace("\0", "") for word in words)
    quoted = ['"' + word.replace('"', '""') + '"' for word in (table, *columns)]
    connection = sqlite3.connect(":memory:")
    try:
        connection.execute(f"CREATE TABLE {quoted[0]} ({', '.join(quoted[1:])})")
    except sqlite3.OperationalError:
        return  # SQLite keeps some names for itself
    wanted = index(*columns, table=table, dialect="sqlite")
    connection.execute(wanted.create_sql)
    made = connection.execute("SELECT name FROM pragma_index_info(?) ORDER BY seqno", (wanted.name,))
    assert [name for (name,) in made] == columns
    connection.close()


def test_a_wider_index_covers_its_leading_columns_in_either_direction():
    a, b = IndexColumn("a"), IndexColumn("b")
    assert covers((a, b), (a,))
    assert covers((a, b), (a.reversed(), b.reversed()))
    assert not covers((a, b), (b,))
    assert not covers((a, b), (a, b.reversed()))
    assert not covers((a,), (a, b))


VALID = {"dialect": "postgresql", "table": "t", "columns": [{"name": "a"}]}


def test_an_index_is_read_back_from_data_and_unknown_keys_are_ignored():
    assert index_from_dict(VALID | {"title": "missing index"}) == index("a", table="t")


def test_sql_in_the_data_is_rebuilt_not_read():
    hostile = VALID | {"create_sql": "DROP TABLE t", "undo_sql": "DROP TABLE t", "alembic": "import os"}
    assert index_from_dict(hostile).create_sql.startswith("CREATE INDEX CONCURRENTLY upshift_t_a_")


def test_sql_in_an_identifier_becomes_a_quoted_identifier():
    read = index_from_dict(VALID | {"table": 't (a); DROP TABLE t; --"'})
    assert read.create_sql.endswith('ON "t (a); DROP TABLE t; --""" (a)')


def test_a_name_that_does_not_follow_from_the_columns_is_refused():
    with pytest.raises(IndexAdviceError, match="edited"):
        index_from_dict(VALID | {"name": "users_pkey"})


@pytest.mark.parametrize(
    "change",
    [
        {"dialect": "mysql"},
        {"table": ""},
        {"table": "a\0b"},
        {"table": "a\nb"},
        {"table": "x" * 256},
        {"table": 7},
        {"table": "\udc80"},
        {"columns": []},
        {"columns": [{"name": name} for name in "abcde"]},
        {"columns": [{"name": "a"}, {"name": "a"}]},
        {"columns": [{"name": "a", "descending": "yes"}]},
        {"columns": [{"name": "a", "operator_class": "text_ops); DROP TABLE t; --"}]},
        {"schema": {"name": "public"}},
    ],
)
def test_data_that_is_no_index_is_refused(change):
    with pytest.raises(IndexAdviceError, match="no index advised by Upshift"):
        index_from_dict(VALID | change)


@pytest.mark.parametrize("data", [None, [], "text", 1, {}])
def test_anything_else_is_refused(data):
    with pytest.raises(IndexAdviceError):
        index_from_dict(data)


HOSTILE = [
    {"include": ["a"]},
    {"include": [""]},
    {"include": ["b\x00"]},
    {"include": [f"c{n}" for n in range(9)]},
    {"include": "b"},
    {"where": [{"column": "b", "test": "= 1; DROP TABLE t; --"}]},
    {"where": [{"column": "b", "test": "="}]},
    {"where": [{"column": "b", "test": "is null", "value": 5}]},
    {"where": [{"column": "b", "test": "=", "value": "back\\slash"}]},
    {"where": [{"column": "b", "test": "=", "value": "x" * 201}]},
    {"where": [{"column": "b", "test": "=", "value": {"sql": "now()"}}]},
    {"where": [{"column": "b", "test": "=", "value": True}]},
    {"where": [{"column": "b", "test": "=", "value": 2**63}]},
    {"where": [{"column": "b", "test": "=", "value": 1.5}]},
    {"where": [{"column": f"c{n}", "test": "is null"} for n in range(4)]},
    {"method": "gist"},
    {"method": "gin", "columns": [{"name": "a", "descending": True}]},
    {"method": "gin", "include": ["b"]},
    {"columns": [{"name": "a", "function": "pg_sleep(9)"}]},
    {"columns": [{"name": "a", "operator_class": "x); DROP TABLE t; --"}]},
    {"columns": [{"name": "a", "function": "lower"}, {"name": "a", "function": "lower"}]},
    {"dialect": "sqlite", "include": ["b"]},
    {"dialect": "sqlite", "method": "gin"},
]


@pytest.mark.parametrize("change", HOSTILE, ids=str)
def test_what_is_not_in_the_vocabulary_is_refused(change):
    data = {"dialect": "postgresql", "table": "t", "columns": [{"name": "a"}]}
    with pytest.raises(IndexAdviceError):
        index_from_dict(data | change)


@pytest.mark.parametrize(
    "change",
    [
        {"include": ["b"]},
        {"where": [{"column": "b", "test": "=", "value": "x"}]},
        {"where": [{"column": "b", "test": "=", "value": "y"}]},
        {"where": [{"column": "b", "test": "is null"}]},
        {"method": "gin"},
        {"columns": [{"name": "a", "function": "lower"}]},
        {"columns": [{"name": "a", "descending": True}]},
    ],
    ids=str,
)
def test_a_name_follows_from_everything_that_an_index_is(change):
    data = {"dialect": "postgresql", "table": "t", "columns": [{"name": "a"}]}
    plain, other = index_from_dict(data), index_from_dict(data | change)
    assert plain.name != other.name
    with pytest.raises(IndexAdviceError, match="should be named"):
        index_from_dict(data | change | {"name": plain.name})


@pytest.mark.parametrize("value", ["it's", "%(x)s", ":x", "$1", "'; DROP TABLE t; --", '"', "ä 雪", ""])
def test_a_constant_is_one_literal_whatever_it_holds(value):
    data = {"dialect": "postgresql", "table": "t", "columns": [{"name": "a"}]}
    index = index_from_dict(data | {"where": [{"column": "b", "test": "=", "value": value}]})
    literal = value.replace("'", "''")
    assert index.blocking_sql.endswith(f"ON t (a) WHERE b = '{literal}'")
