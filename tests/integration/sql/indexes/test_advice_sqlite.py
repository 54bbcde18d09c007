"""Index advice on SQLite: tried on a copy, measured in steps of its virtual machine."""

from __future__ import annotations

import hashlib
import sqlite3
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool, StaticPool

from upshift.errors import DatabaseUnavailableError, IndexAdviceError
from upshift.sql.engines import sync_engine_for
from upshift.sql.indexes import trial_sqlite
from upshift.sql.indexes.advisor import advise
from upshift.sql.indexes.workload import Work
from upshift.sql.placeholders import Sample

SCHEMA = """
    CREATE TABLE event (id INTEGER PRIMARY KEY, tenant INT, kind TEXT, ts TEXT);
    CREATE TABLE item (id INTEGER PRIMARY KEY, event_id INT, qty INT, twice INT AS (qty * 2));
    CREATE TABLE "Big ""Order%" ("Customer Id" INT, "select" TEXT);
    CREATE TABLE tagged (event_id INT, tag TEXT, PRIMARY KEY (event_id, tag)) WITHOUT ROWID;
    CREATE TABLE known (id INTEGER PRIMARY KEY, owner INT, note TEXT);
    CREATE INDEX known_owner ON known (owner, note);
    CREATE TABLE tiny (id INTEGER PRIMARY KEY, a INT);
    CREATE VIEW busy AS SELECT * FROM event;
"""


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("sqlite") / "shop.db"
    connection = sqlite3.connect(path)
    connection.executescript(SCHEMA)
    rows = [(i, i % 5, f"kind {i % 7}", f"{i:06}") for i in range(1, 10_001)]
    connection.executemany("INSERT INTO event VALUES (?, ?, ?, ?)", rows)
    connection.executemany(
        "INSERT INTO item (id, event_id, qty) VALUES (?, ?, ?)",
        [(i, i // 2, i % 90) for i in range(1, 20_001)],
    )
    connection.executemany('INSERT INTO "Big ""Order%" VALUES (?, ?)', [(i % 900, "x") for i in range(5_000)])
    connection.executemany("INSERT INTO tagged VALUES (?, ?)", [(i, f"t{i % 900}") for i in range(5_000)])
    connection.executemany("INSERT INTO known VALUES (?, ?, ?)", [(i, i % 900, "x") for i in range(5_000)])
    connection.executemany("INSERT INTO tiny VALUES (?, ?)", [(i, i) for i in range(200)])
    connection.commit()
    connection.close()
    return path


@pytest.fixture
def shop(path) -> sa.Engine:
    return sa.create_engine(f"sqlite:///{path}", poolclass=NullPool)


def advised(engine: sa.Engine, sql: str, *parameters: Any, **options: Any) -> list[str]:
    report = advise(engine, [Sample(sql, parameters or None)], **options)
    assert not report.skipped
    return [f"{each.table}({', '.join(map(str, each.columns))})" for each in report.advices]


def skipped(engine: sa.Engine, sql: str, *parameters: Any) -> tuple[str, str]:
    report = advise(engine, [Sample(sql, parameters or None)])
    assert not report.advices
    (skip,) = report.skipped
    return skip.kind, skip.reason


FEED = "SELECT * FROM event WHERE tenant = ? AND kind = ? ORDER BY ts DESC LIMIT ?"


class TestAdvised:
    def test_equalities_and_order_in_one_index(self, shop):
        (advice,) = advise(shop, [Sample(FEED, (3, "kind 3", 3))]).advices
        assert [column.name for column in advice.columns] == ["tenant", "kind", "ts"]
        assert advice.cost_after <= advice.cost_before / 2
        assert advice.served[0].plan_before[0] == "SCAN event"
        assert advice.name in advice.served[0].plan_after[0]
        assert (advice.unit, advice.verified) == ("steps", "copy")
        assert "CONCURRENTLY" not in advice.create_sql + advice.alembic

    def test_a_foreign_key(self, shop):
        assert advised(shop, "SELECT * FROM item WHERE event_id = ?", 5) == ["item(event_id)"]

    def test_a_list(self, shop):
        assert advised(shop, "SELECT * FROM item WHERE event_id IN (?, ?)", 5, 6) == ["item(event_id)"]

    def test_order_and_limit(self, shop):
        assert advised(shop, "SELECT * FROM event ORDER BY ts DESC LIMIT 5") == ["event(ts)"]

    def test_the_inner_table_of_a_join(self, shop):
        sql = "SELECT * FROM event LEFT JOIN item ON item.event_id = event.id WHERE event.id < ?"
        assert advised(shop, sql, 900) == ["item(event_id)"]

    def test_the_narrow_index_where_a_wider_one_gains_next_to_nothing(self, shop):
        sql = "SELECT * FROM item WHERE event_id = ? ORDER BY qty, id"
        assert advised(shop, sql, 5) == ["item(event_id)"]

    def test_a_generated_column(self, shop):
        assert advised(shop, "SELECT * FROM item WHERE twice = 8") == ["item(twice)"]

    def test_names_that_need_quotes_in_any_case(self, shop):
        assert advised(shop, 'SELECT * FROM "BIG ""ORDER%" WHERE "CUSTOMER ID" = 3') == [
            'Big "Order%(Customer Id)'
        ]

    def test_named_parameters(self, shop):
        report = advise(shop, [Sample("SELECT * FROM item WHERE event_id = :id", {"id": 4})])
        assert len(report.advices) == 1

    def test_a_database_in_memory(self):
        engine = sa.create_engine("sqlite://", poolclass=StaticPool)
        with engine.begin() as connection:
            connection.exec_driver_sql("CREATE TABLE t (a INT)")
            numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 5000)"
            connection.exec_driver_sql(f"INSERT INTO t {numbers} SELECT i FROM n")
        assert advised(engine, "SELECT * FROM t WHERE a = 5") == ["t(a)"]
        engine.dispose()

    def test_the_engine_of_an_asynchronous_application(self, path):
        engine = sync_engine_for(create_async_engine(f"sqlite+aiosqlite:///{path}"))
        assert advised(engine, "SELECT * FROM item WHERE event_id = ?", 5) == ["item(event_id)"]


class TestNotAdvised:
    @pytest.mark.parametrize(
        "sql",
        [
            "SELECT * FROM item WHERE id = 5",
            "SELECT * FROM tiny WHERE a = 5",
            "SELECT * FROM known WHERE owner = 5",
            "SELECT * FROM tagged WHERE event_id = 5",
            "SELECT count(*) FROM event",
            "SELECT * FROM event WHERE tenant >= 0",
            "SELECT * FROM busy WHERE id = 1",
            "SELECT 1",
        ],
    )
    def test_where_no_index_would_halve_the_steps(self, shop, sql):
        assert advised(shop, sql) == []


class TestSkipped:
    def test_a_statement_without_its_parameters(self, shop):
        kind, reason = skipped(shop, "SELECT * FROM item WHERE event_id = ?")
        assert (kind, reason) == ("refused", "no sample parameters that fit the statement were kept")

    def test_a_statement_that_sqlite_refuses(self, shop):
        assert skipped(shop, "SELECT * FROM nowhere") == ("refused", "no such table: nowhere")
        assert skipped(shop, "SELECT own_function(id) FROM item")[0] == "refused"

    def test_a_statement_that_writes(self, shop):
        assert skipped(shop, "DELETE FROM item WHERE event_id = 3") == (
            "refused",
            "on SQLite only SELECT is measured",
        )

    def test_what_is_no_query(self, shop):
        assert skipped(shop, "PRAGMA user_version = 5")[0] == "unreadable"
        assert skipped(shop, "SELECT 1; DELETE FROM item")[0] == "unreadable"

    def test_a_view(self, shop):
        assert skipped(shop, "SELECT * FROM busy WHERE kind = 'x'") == (
            "not tried",
            "busy is a view or a virtual table",
        )


def test_the_database_is_left_byte_for_byte_as_it_was(shop, path):
    before = hashlib.sha256(path.read_bytes()).digest()
    advise(
        shop,
        [Sample(FEED, (1, "kind 1", 5)), Sample("DELETE FROM item"), Sample("SELECT 1; DELETE FROM item")],
    )
    assert hashlib.sha256(path.read_bytes()).digest() == before


def test_a_statement_that_would_run_for_ever_is_stopped(shop, monkeypatch):
    monkeypatch.setattr(trial_sqlite, "MAX_STEPS", 200_000)
    endless = (
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT * FROM n, item WHERE qty < 0"
    )
    assert advised(shop, endless) == []


def test_a_database_larger_than_the_limit_is_not_copied(shop):
    with pytest.raises(IndexAdviceError, match=r"up to 0\.1 MB are copied"):
        advise(shop, [Sample("SELECT 1")], max_copy_bytes=100_000)


def test_a_database_that_is_not_there_is_reported(tmp_path):
    engine = sa.create_engine(f"sqlite:///{tmp_path}/missing/shop.db", poolclass=NullPool)
    with pytest.raises(DatabaseUnavailableError, match="cannot connect"):
        advise(engine, [Sample("SELECT 1")])


def test_a_file_that_is_no_database_is_reported(tmp_path):
    (tmp_path / "shop.db").write_text("these are no pages of a database" * 100)
    engine = sa.create_engine(f"sqlite:///{tmp_path}/shop.db", poolclass=NullPool)
    with pytest.raises(IndexAdviceError, match="cannot be copied: file is not a database"):
        advise(engine, [Sample("SELECT 1")])


def test_a_database_that_is_being_written_is_copied_as_it_was(shop, path):
    writer = sqlite3.connect(path)
    writer.execute("BEGIN IMMEDIATE")
    writer.execute("DELETE FROM item")
    try:
        assert advised(shop, "SELECT * FROM item WHERE event_id = ?", 5) == ["item(event_id)"]
    finally:
        writer.rollback()
        writer.close()


class TestWorkload:
    def test_a_function_of_a_column(self, shop):
        (advice,) = advise(shop, [Sample("SELECT * FROM event WHERE upper(ts) = ?", ("000007",))]).advices
        assert str(advice.index) == "event (upper(ts))"

    def test_a_constant_that_stands_in_the_text_bounds_the_index(self, shop):
        sql = "SELECT * FROM event WHERE kind = 'kind 3' AND ts = ?"
        (advice,) = advise(shop, [Work(sql, (("000007",), ("000010",)), calls=20)]).advices
        assert str(advice.index) in {"event (ts) where kind = 'kind 3'", "event (ts)"}

    def test_what_writing_costs_more_than_reading_gains_is_not_advised(self, shop):
        read = Work("SELECT * FROM event WHERE ts = ?", (("000007",),), calls=1)
        write = Work("INSERT INTO event (tenant, ts) VALUES (?, ?)", ((1, "x"),), calls=1_000_000, rows=1)
        assert [str(each.index) for each in advise(shop, [read]).advices] == ["event (ts)"]
        assert advise(shop, [read, write]).advices == ()

    def test_figures_are_steps(self, shop):
        (advice,) = advise(shop, [Work("SELECT * FROM event WHERE ts = ?", (("000007",),), calls=5)]).advices
        (served,) = advice.served
        assert advice.figures.unit == "steps"
        assert advice.figures.gain == 5 * (served.measure_before - served.measure_after)
        assert advice.figures.entry > 0
        assert advice.figures.size >= 4096

    def test_a_second_table_of_a_join_gets_its_own(self, shop):
        sql = (
            "SELECT * FROM known JOIN item ON item.event_id = known.id WHERE known.note = ? AND item.qty = ?"
        )
        found = {each.table for each in advise(shop, [Work(sql, (("x", 7),), calls=9)]).advices}
        assert "item" in found
