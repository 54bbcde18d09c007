"""Maintenance of real SQLite files."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from upshift.errors import DatabaseUnavailableError, MaintenanceError
from upshift.sql.maintenance.advice import Work
from upshift.sql.maintenance.sqlite import advised_sqlite, do_sqlite, sql_of, tables_of


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "shop.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute('CREATE TABLE "odd ""t" (a INTEGER PRIMARY KEY, b TEXT)')
        connection.execute('CREATE INDEX odd_b ON "odd ""t" (b)')
        rows = ((n, "x" * 200) for n in range(20_000))
        connection.executemany('INSERT INTO "odd ""t" VALUES (?, ?)', rows)
    return path


@pytest.fixture
def engine(file: Path) -> sa.Engine:
    return sa.create_engine(f"sqlite:///{file}", poolclass=NullPool)


def shrink(file: Path) -> None:
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute('DELETE FROM "odd ""t" WHERE a > 100')


def test_what_is_needed_is_advised_and_what_was_done_is_not_needed_any_more(engine, file):
    shrink(file)
    size = file.stat().st_size
    works = advised_sqlite(engine)
    assert [sql_of(work) for work in works] == ["VACUUM", 'ANALYZE "odd ""t"']
    assert [each.did for each in do_sqlite(engine, works)] == ["done", "done"]
    assert file.stat().st_size < size / 10
    assert advised_sqlite(engine) == ()


def test_nothing_is_advised_for_what_is_well(engine):
    list(do_sqlite(engine, [Work(verb="analyze")]))
    assert advised_sqlite(engine) == ()


def test_indexes_are_built_anew(engine):
    works = [Work(verb="reindex"), Work(verb="reindex", table='odd "t'), Work(verb="reindex", index="odd_b")]
    assert {each.did for each in do_sqlite(engine, works)} == {"done"}


@pytest.mark.parametrize("verb", ["vacuum", "analyze", "reindex"])
def test_a_file_that_another_process_writes_is_told_and_left_as_it_was(engine, file, verb):
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        (done,) = do_sqlite(engine, [Work(verb=verb)], lock_seconds=0.1)
    assert (done.did, "locked: another process writes" in done.reason) == ("failed", True)


def test_what_takes_too_long_is_ended_and_changes_nothing(engine, file):
    before = file.read_bytes()
    (done,) = do_sqlite(engine, [Work(verb="vacuum")], statement_seconds=0.0)
    assert (done.did, "it took too long" in done.reason) == ("failed", True)
    assert file.read_bytes() == before


def test_a_file_that_is_no_database_is_an_error(tmp_path):
    path = tmp_path / "not.db"
    path.write_bytes(b"this is no database" * 100)
    engine = sa.create_engine(f"sqlite:///{path}", poolclass=NullPool)
    with pytest.raises((MaintenanceError, DatabaseUnavailableError)):
        advised_sqlite(engine)


def test_tables_are_named_as_the_database_does(engine):
    assert tables_of(engine) == ['odd "t']
