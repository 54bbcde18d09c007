"""Which tables a text reads and writes; what SQLAlchemy compiles is tested where it is sent."""

from __future__ import annotations

import sys

import pytest
from sqlalchemy import Column, ForeignKey, Integer, MetaData, Table

from upshift.cache.dependencies.effects import UNREADABLE_READ
from upshift.cache.dependencies.names import EVERYTHING, SCHEMA, table_tag
from upshift.cache.dependencies.schema import Schema
from upshift.cache.dependencies.tables import MAX_TEXTS, StatementTables
from upshift.cache.dependencies.texts import MAX_TEXT, effect_of_text


def tables(sql, dialect="postgresql"):
    return StatementTables().of_text(sql, dialect)


def names(tags):
    """Return the names of tables, which are announced with their rows where rows are not told."""
    return sorted(tag.removeprefix("table:") for tag in tags if not tag.startswith("rows:") and tag != SCHEMA)


@pytest.mark.parametrize(
    ("sql", "read", "written"),
    [
        ("SELECT * FROM a", ["a"], []),
        ('select x from public.A join "B" on true', ["a", "b"], []),
        ("SELECT (SELECT max(x) FROM b) FROM a WHERE EXISTS (SELECT FROM c)", ["a", "b", "c"], []),
        ("WITH x AS (SELECT * FROM a) SELECT * FROM x, b", ["a", "b"], []),
        ("SELECT * FROM a UNION SELECT * FROM b", ["a", "b"], []),
        ("SELECT * FROM a WHERE id = %s AND name = %(name)s", ["a"], []),
        ("SELECT * FROM a WHERE id = $1::INTEGER FOR UPDATE", ["a"], []),
        ("/* UPDATE b */ SELECT 1 FROM a -- DELETE FROM c", ["a"], []),
        ("INSERT INTO a VALUES (1)", ["a"], ["a"]),
        ("INSERT INTO a (x) SELECT y FROM b ON CONFLICT DO NOTHING", ["a", "b"], ["a"]),
        ("UPDATE a SET x = 1 FROM b WHERE a.id = b.id", ["a", "b"], ["a"]),
        ("DELETE FROM a USING b WHERE a.id = b.id", ["a", "b"], ["a"]),
        ("WITH gone AS (DELETE FROM a RETURNING *) INSERT INTO b SELECT * FROM gone", ["a", "b"], ["a", "b"]),
        ("MERGE INTO a USING b ON a.id = b.id WHEN MATCHED THEN DELETE", ["a", "b"], ["a"]),
        ("TRUNCATE a, b", ["a", "b"], ["a", "b"]),
        ("ALTER TABLE a ADD COLUMN x int", ["a"], ["a"]),
        ("DROP TABLE a", ["a"], ["a"]),
        ("CREATE TABLE a AS SELECT * FROM b", ["a", "b"], ["a", "b"]),
        ("UPDATE a SET x = 1; DELETE FROM b", ["a", "b"], ["a", "b"]),
        ("WITH a AS (SELECT * FROM a) SELECT * FROM a", ["a"], []),
        ("WITH RECURSIVE x AS (SELECT 1 UNION SELECT * FROM x) SELECT * FROM x, b", ["b"], []),
        ("WITH x AS (SELECT * FROM y), y AS (SELECT 1) SELECT * FROM x, y", ["y"], []),
        ("BEGIN", [], []),
        ("SET LOCAL statement_timeout = 100", [], []),
        ("RELEASE SAVEPOINT s", [], []),
    ],
)  # fmt: skip
def test_tables_are_told_with_what_is_done_to_them(sql, read, written):
    found = tables(sql)

    assert (names(found.read), names(found.written), found.is_understood) == (read, written, True)


@pytest.mark.parametrize(
    "sql",
    [
        "DO $$ BEGIN UPDATE a SET x = 1; END $$",
        "CALL settle_orders()",
        "EXECUTE prepared_update(1)",
        "EXPLAIN ANALYZE DELETE FROM a",
        "COPY a FROM STDIN",
        "this is no SQL",
        "",
        "UPDATE " + "x" * MAX_TEXT,
        "SET x = 1; CALL settle_orders()",
        "SELECT 1; CALL settle_orders()",
        "REFRESH MATERIALIZED VIEW v",
        "TRUNCATE a CASCADE",
    ],
    ids=lambda sql: sql[:20],
)
def test_what_cannot_be_understood_writes_everything(sql):
    found = tables(sql)

    assert (found.written, found.is_understood) == ({EVERYTHING}, False)


@pytest.mark.parametrize(
    "sql", ["SHOW search_path", "FETCH 10 FROM c", "SELECT FROM FROM", "SELECT '" + "x" * MAX_TEXT]
)
def test_a_read_that_cannot_be_understood_writes_nothing_and_is_not_kept(sql):
    found = tables(sql)

    assert (found.written, found.is_understood) == (frozenset(), False)


def test_without_a_parser_texts_are_not_understood(monkeypatch):
    monkeypatch.setitem(sys.modules, "sqlglot", None)

    assert tables("SELECT * FROM a") == UNREADABLE_READ.tables
    assert tables("DELETE FROM a").written == {EVERYTHING}


def test_a_view_reads_what_is_behind_it():
    known = StatementTables({"shop.active_products": ["product", "stock"]})

    assert names(known.of_text("SELECT * FROM active_products", "sqlite").read) == [
        "active_products",
        "product",
        "stock",
    ]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM active()",
        "SELECT shop.active(7)",
        "SELECT * FROM shop AS s JOIN LATERAL Active(s.id) ON true",
        "SELECT name FROM shop WHERE id = active()",
    ],
)
def test_a_function_reads_what_it_was_told_to_read(sql):
    known = StatementTables({"shop.active": ["product"]})

    assert "table:product" in known.of_text(sql, "postgresql").read
    assert "table:product" not in tables(sql).read


def test_a_view_of_a_view_reads_what_is_behind_both():
    known = StatementTables({"dear": ["active", "price"], "active": ["product", "dear"]})

    assert names(known.of_text("SELECT * FROM dear", "sqlite").read) == ["active", "dear", "price", "product"]
    assert names(known.of_text("DELETE FROM dear", "sqlite").written) == [
        "active",
        "dear",
        "price",
        "product",
    ]


@pytest.mark.parametrize(
    ("sql", "changes"),
    [
        ("CREATE VIEW v AS SELECT * FROM a", True),
        ("-- a view\ncreate or replace view v as select * from a", True),
        ("CREATE TABLE c PARTITION OF p FOR VALUES FROM (1) TO (2)", True),
        ("ALTER TABLE p ATTACH PARTITION c FOR VALUES FROM (1) TO (2)", True),
        ("DELETE FROM a; ALTER TABLE a NO INHERIT b", True),
        ("CREATE TEMPORARY VIEW v AS SELECT * FROM a", True),
        ("CREATE TEMP TABLE t (x int)", False),
        ("create local temporary table t (x int)", False),
        ("DROP TABLE a", False),
        ("INSERT INTO a VALUES ('create it')", False),
    ],
)
def test_who_makes_or_alters_what_hangs_together_changes_the_schema(sql, changes):
    assert (SCHEMA in tables(sql).written) is changes


def test_only_a_schema_that_is_read_is_said_to_be_changed():
    assert SCHEMA not in tables("CREATE VIEW v AS SELECT * FROM a", "sqlite").written


def test_a_select_that_makes_a_table_writes_it():
    told = tables("SELECT * INTO a FROM b", "postgresql")

    assert (told.written, names(told.read)) == ({"rows:a", "table:a"}, ["a", "b"])


def test_a_text_on_which_the_parser_fails_is_left_to_the_database():
    assert tables("EXPLAIN ANALYZE DELETE LATERAL FROM a TO", "mysql").written == {EVERYTHING}


def test_a_write_through_a_view_changes_what_is_behind_it():
    known = StatementTables({"active_products": ["product"]})

    assert known.of_text("UPDATE active_products SET price = 1", "sqlite").written == {
        "rows:active_products", "rows:product", "table:active_products", "table:product",
    }  # fmt: skip


@pytest.mark.parametrize(
    "sql", ["UPDATE a JOIN b ON a.id = b.id SET a.x = 1, b.x = 2", "DELETE a, b FROM a JOIN b ON a.id = b.id"]
)
def test_a_change_of_several_tables_writes_all(sql):
    assert names(tables(sql, "mysql").written) == ["a", "b"]


@pytest.mark.parametrize(
    ("sql", "dialect"),
    [
        ("COMMIT", "postgresql"),
        ("end transaction", "sqlite"),
        ("RELEASE SAVEPOINT s", "sqlite"),
        ("CREATE TABLE b (x int)", "mysql"),
        ("START TRANSACTION", "mariadb"),
        ("CALL settle(7)", "mysql"),
        ("FLUSH STATUS", "mariadb"),
        ("EXECUTE IMMEDIATE 'COMMIT'", "mariadb"),
        ("COMMIT PREPARED 'x'", "postgresql"),
    ],
)
def test_texts_that_commit_are_told(sql, dialect):
    assert effect_of_text(sql, dialect, Schema()).may_commit


def test_the_second_phase_of_another_transaction_may_have_written_anything():
    assert tables("COMMIT PREPARED 'x'").written == {EVERYTHING}


def test_remembered_texts_are_bounded():
    known = StatementTables()
    for number in range(MAX_TEXTS + 10):
        known.of_text(f"SET x = {number}", "sqlite")

    assert len(known._texts) == MAX_TEXTS


def test_cascades_reach_through_tables():
    metadata = MetaData()
    Table("a", metadata, Column("id", Integer, primary_key=True))
    Table("b", metadata, Column("id", Integer, ForeignKey("a.id", ondelete="CASCADE"), primary_key=True))
    Table("c", metadata, Column("id", Integer, ForeignKey("b.id", onupdate="SET NULL"), primary_key=True))
    Table("d", metadata, Column("id", Integer, ForeignKey("a.id"), primary_key=True))
    Table(
        "tree", metadata, Column("id", Integer, ForeignKey("tree.id", ondelete="CASCADE"), primary_key=True)
    )

    schema = Schema()
    schema.learn(metadata.tables["a"])

    assert {name: sorted(schema.with_deleted(name)) for name in metadata.tables} == {
        "a": ["b", "c"], "b": [], "c": [], "d": [], "tree": ["tree"],
    }  # fmt: skip
    assert {name: sorted(schema.with_updated(name, frozenset({"id"}))) for name in "abd"} == {
        "a": [], "b": ["c"], "d": [],
    }  # fmt: skip
    assert schema.with_updated("b", frozenset({"name"})) == frozenset()
    assert schema.with_updated("b", frozenset({"rowid"})) == {"c"}


def test_a_tag_is_the_bare_name_in_lower_case():
    assert table_tag('public."Product"') == table_tag("PRODUCT") == "table:product"
