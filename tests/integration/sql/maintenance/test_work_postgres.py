"""Maintenance on a real PostgreSQL, with everything that can come in between."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from upshift.errors import DatabaseUnavailableError, MaintenanceError
from upshift.sql import exclusive
from upshift.sql.maintenance import work as working
from upshift.sql.maintenance.advice import Work, advised
from upshift.sql.maintenance.tables import read_tables
from upshift.sql.maintenance.work import Done, do_postgres, leaves

REINDEX = Work(verb="reindex", schema="public", table="t")
VACUUM = Work(verb="vacuum", schema="public", table="t")
ANALYZE = Work(verb="analyze", schema="public", table="t")


@pytest.fixture
def engine(postgres_database: str) -> sa.Engine:
    engine = sa.create_engine(postgres_database, poolclass=NullPool)
    run(
        engine,
        "CREATE TABLE t (a int PRIMARY KEY, b int) WITH (autovacuum_enabled = off)",
        "INSERT INTO t SELECT i, i FROM generate_series(1, 2000) i",
        "CREATE INDEX t_b ON t (b)",
    )
    return engine


def run(engine: sa.Engine, *statements: str) -> None:
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT", no_parameters=True) as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)


def do(engine: sa.Engine, *works: Work, **limits: float) -> list[Done]:
    return list(do_postgres(engine, works, **limits))


def invalid(engine: sa.Engine) -> list[str]:
    query = "SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisvalid ORDER BY 1"
    with engine.connect() as connection:
        return list(connection.exec_driver_sql(query).scalars())


def advice(engine: sa.Engine) -> list[Work]:
    with engine.begin() as connection:
        return list(advised(read_tables(connection)))


@contextmanager
def holding(engine: sa.Engine, sql: str) -> Iterator[None]:
    """Another session, with a transaction that a concurrent reindex waits for."""
    with engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
        connection.exec_driver_sql(sql)
        yield
        connection.rollback()


SNAPSHOT = "SELECT 1"
WRITE = "UPDATE t SET b = b WHERE a = 1"


def until(is_so) -> None:
    deadline = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_each_is_done_and_told(engine):
    assert do(engine, ANALYZE, VACUUM, REINDEX) == [Done(each, "done") for each in (ANALYZE, VACUUM, REINDEX)]
    with engine.begin() as connection:
        (table,) = read_tables(connection)
    assert None not in {table.vacuumed_at, table.analyzed_at}
    assert invalid(engine) == []


def test_hostile_names_are_names(engine):
    name = "T \"1%'; DROP TABLE t; --"
    quoted = name.replace('"', '""')
    run(engine, 'CREATE SCHEMA "S ."', f'CREATE TABLE "S ."."{quoted}" (a int PRIMARY KEY)')
    works = [Work(verb=verb, schema="S .", table=name) for verb in ("analyze", "vacuum", "reindex")]
    assert [each.did for each in do(engine, *works)] == ["done"] * 3


def test_a_partitioned_table_is_done_by_its_leaves(engine):
    run(
        engine,
        "CREATE TABLE p (a int PRIMARY KEY) PARTITION BY RANGE (a)",
        "CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (9)",
        "CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (9) TO (20) PARTITION BY RANGE (a)",
        "CREATE TABLE p2a PARTITION OF p2 FOR VALUES FROM (9) TO (12)",
    )
    with engine.connect() as connection:
        parts = leaves(connection, "public", "p")
    assert parts == [("public", "p1"), ("public", "p2a")]
    whole = [Work(verb=verb, schema="public", table="p") for verb in ("analyze", "vacuum")]
    parts = [Work(verb="reindex", schema=schema, table=name) for schema, name in parts]
    assert {each.did for each in do(engine, *whole, *parts)} == {"done"}


@pytest.mark.parametrize("work", [ANALYZE, VACUUM, REINDEX], ids=lambda work: work.verb)
def test_a_table_that_somebody_holds_is_told_and_left_as_it_was(engine, work):
    with engine.connect() as other:
        other.exec_driver_sql("LOCK TABLE t IN ACCESS EXCLUSIVE MODE")
        (done,) = do(engine, work, lock_seconds=0.2)
    assert (done.did, done.reason) == ("failed", "another session holds the table; nothing is left half done")
    assert invalid(engine) == []


def test_a_reindex_that_takes_too_long_leaves_nothing_invalid(engine):
    with ThreadPoolExecutor() as pool, holding(engine, SNAPSHOT):
        future = pool.submit(do, engine, REINDEX, statement_seconds=1.0, lock_seconds=60.0)
        until(lambda: invalid(engine))
        until(lambda: not invalid(engine))
    (done,) = future.result()
    assert (done.did, done.reason) == ("failed", "it took too long and was ended; nothing is left half done")
    assert invalid(engine) == []


def test_what_was_invalid_before_stays_as_it_was(engine):
    run(engine, "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 't_b'::regclass")
    with engine.connect() as other:
        other.exec_driver_sql("LOCK TABLE t IN ACCESS EXCLUSIVE MODE")
        do(engine, REINDEX, lock_seconds=0.2)
    assert invalid(engine) == ["t_b"]


def test_what_fails_does_not_stop_the_others(engine):
    missing = Work(verb="analyze", schema="public", table="nowhere")
    first, second = do(engine, missing, ANALYZE)
    assert (first.did, 'relation "public.nowhere" does not exist' in first.reason) == ("failed", True)
    assert second.did == "done"


def test_a_table_of_another_user_fails_instead_of_being_skipped(engine):
    (done,) = do(engine, Work(verb="vacuum", schema="public", table="t", may_do=False))
    assert (done.did, "only its owner" in done.reason) == ("failed", True)


def test_never_two_at_once(engine, monkeypatch):
    monkeypatch.setattr(exclusive, "LOCK_SECONDS", 0.3)
    with exclusive.exclusive_session(engine, "SELECT 1"), pytest.raises(MaintenanceError, match="already"):
        do(engine, ANALYZE)
    assert do(engine, ANALYZE)[0].did == "done"


def test_a_database_that_is_away_is_an_error_of_its_own():
    away = sa.create_engine("postgresql+psycopg://localhost:1/nothing", poolclass=NullPool)
    with pytest.raises(DatabaseUnavailableError, match="cannot connect"):
        do(away, ANALYZE)


def test_a_session_that_the_server_ends_leaves_nothing_invalid(engine):
    terminate = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'REINDEX%'"
    with ThreadPoolExecutor() as pool, holding(engine, SNAPSHOT):
        future = pool.submit(do, engine, REINDEX, lock_seconds=60.0)
        until(lambda: invalid(engine))
        run(engine, terminate)
        with pytest.raises(DatabaseUnavailableError, match="lost the connection"):
            future.result()
        assert invalid(engine) == []


def test_progress_is_told_from_the_servers_own_view(engine, monkeypatch):
    monkeypatch.setattr(working, "POLL_SECONDS", 0.05)
    told = []
    with ThreadPoolExecutor() as pool, holding(engine, SNAPSHOT):
        works = do_postgres(engine, [REINDEX], statement_seconds=1.0, on_progress=told.append)
        pool.submit(list, works)
        until(lambda: any("waiting for old snapshots" in each for each in told))
    assert told[0] == REINDEX.sql


CHILD = """
    import sys
    from upshift.sql.engines import engine_for
    from upshift.sql.maintenance.advice import Work
    from upshift.sql.maintenance.work import do_postgres
    work = Work(verb="reindex", schema="public", table="t")
    list(do_postgres(engine_for(sys.argv[1]), [work], lock_seconds=60))
"""


class TestInterrupted:
    @pytest.fixture
    def worker(self, engine, postgres_database) -> Iterator[subprocess.Popen[str]]:
        with holding(engine, SNAPSHOT):
            command = [sys.executable, "-c", textwrap.dedent(CHILD), postgres_database]
            process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=dict(os.environ))
            until(lambda: invalid(engine))
            yield process
            process.kill()
            process.communicate()

    def test_ctrl_c_leaves_nothing_invalid(self, engine, worker):
        worker.send_signal(signal.SIGINT)
        _, errors = worker.communicate(timeout=60)
        assert errors.rstrip().endswith("KeyboardInterrupt")
        assert invalid(engine) == []

    def test_what_is_being_built_is_not_advised_for_dropping(self, engine, worker):
        assert invalid(engine) != []
        assert [work for work in advice(engine) if work.verb == "drop"] == []

    def test_after_sigkill_the_remains_are_found_and_dropped(self, engine, worker):
        worker.kill()
        until(lambda: not _is_locked(engine))
        works = [work for work in advice(engine) if work.verb == "drop"]
        assert sorted(work.index for work in works) == invalid(engine) != []
        assert {each.did for each in do(engine, *works)} == {"done"}
        assert invalid(engine) == []


def test_what_a_writer_keeps_from_being_dropped_is_told_and_found_later(engine, monkeypatch):
    monkeypatch.setattr(working, "CLEANING_SECONDS", 0.2)
    with holding(engine, WRITE):
        (done,) = do(engine, REINDEX, lock_seconds=0.2)
        assert "it left an invalid index" in done.reason
    works = [work for work in advice(engine) if work.verb == "drop"]
    assert {each.did for each in do(engine, *works)} == {"done"}
    assert invalid(engine) == []


def _is_locked(engine: sa.Engine) -> bool:
    query = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
    with engine.connect() as connection:
        return bool(connection.exec_driver_sql(query).scalar())
