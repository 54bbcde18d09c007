"""Building and removing indexes on PostgreSQL, with everything that can come in between."""

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

from upshift.errors import DatabaseUnavailableError, IndexAdviceError, MaintenanceError
from upshift.sql import exclusive
from upshift.sql.engines import engine_for
from upshift.sql.indexes import build
from upshift.sql.indexes.build import Outcome, apply_indexes, undo_indexes
from upshift.sql.indexes.index import Index, IndexColumn

A = Index("postgresql", "t", (IndexColumn("a"),))
B = Index("postgresql", "t", (IndexColumn("b", descending=True), IndexColumn("a")))
QUOTED = Index("postgresql", 'T "1%', (IndexColumn("Be ta"),), schema="My Schema")


@pytest.fixture
def engine(postgres_database: str) -> sa.Engine:
    engine = sa.create_engine(postgres_database, poolclass=NullPool)
    run(
        engine,
        "CREATE TABLE t (id int PRIMARY KEY, a int, b int)",
        "INSERT INTO t SELECT i, i % 100, i FROM generate_series(1, 2000) i",
        'CREATE SCHEMA "My Schema"',
        'CREATE TABLE "My Schema"."T ""1%" ("Be ta" int)',
    )
    return engine


def run(engine: sa.Engine, *statements: str) -> None:
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT", no_parameters=True) as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)


def indexes(engine: sa.Engine) -> dict[str, bool]:
    """Every index that is no primary key, and whether it is valid."""
    query = """
        SELECT c.relname, i.indisvalid FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
        JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname IN ('public', 'My Schema') AND NOT i.indisprimary
    """
    with engine.connect() as connection:
        return dict(tuple(row) for row in connection.exec_driver_sql(query))


@contextmanager
def holding(engine: sa.Engine, sql: str) -> Iterator[None]:
    """Another session, with a transaction that holds a snapshot: a concurrent build waits for it."""
    with engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
        connection.exec_driver_sql(sql)
        yield
        connection.rollback()


SNAPSHOT = "SELECT 1"
WRITE = "UPDATE t SET b = b WHERE id = 1"


def wait_until_invalid(engine: sa.Engine, name: str) -> None:
    deadline = time.monotonic() + 30
    while indexes(engine).get(name) is not False:
        assert time.monotonic() < deadline, "the build did not begin"
        time.sleep(0.05)


def wait_until_unlocked(engine: sa.Engine) -> None:
    """Until the server has noticed that a killed client is gone."""
    deadline = time.monotonic() + 30
    with engine.connect() as connection:
        query = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
        while connection.exec_driver_sql(query).scalar():
            assert time.monotonic() < deadline, "the server goes on building"
            time.sleep(0.05)


def leave_invalid(engine: sa.Engine, index: Index) -> None:
    """What a build leaves that was killed on a server that did not notice."""
    with (
        holding(engine, WRITE),
        engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection,
    ):
        connection.exec_driver_sql("SET lock_timeout = '200ms'")
        with pytest.raises(sa.exc.OperationalError):
            connection.exec_driver_sql(index.create_sql)
    assert indexes(engine)[index.name] is False


class TestApply:
    def test_builds_valid_indexes(self, engine):
        outcomes = apply_indexes(engine, [A, B, QUOTED])
        assert outcomes == [Outcome(index.name, "built") for index in (A, B, QUOTED)]
        assert indexes(engine) == {A.name: True, B.name: True, QUOTED.name: True}

    def test_gives_them_the_columns_and_directions_asked_for(self, engine):
        apply_indexes(engine, [B])
        with engine.connect() as connection:
            definition = connection.exec_driver_sql(f"SELECT pg_get_indexdef('{B.name}'::regclass)").scalar()
        assert definition.endswith("USING btree (b DESC, a)")

    def test_keeps_what_is_there_already(self, engine):
        apply_indexes(engine, [A])
        assert apply_indexes(engine, [A, B]) == [Outcome(A.name, "kept"), Outcome(B.name, "built")]

    def test_builds_each_index_once_though_it_is_asked_for_twice(self, engine):
        assert apply_indexes(engine, [A, A]) == [Outcome(A.name, "built")]

    def test_keeps_an_index_of_another_name_that_serves_as_well(self, engine):
        run(engine, "CREATE INDEX mine ON t (a, b)")
        assert apply_indexes(engine, [A]) == [Outcome(A.name, "kept")]
        assert indexes(engine) == {"mine": True}

    def test_leaves_a_valid_index_of_its_name_alone_though_it_is_another_one(self, engine):
        run(engine, f"CREATE INDEX {A.name} ON t (a) WHERE b > 0")
        (outcome,) = apply_indexes(engine, [A])
        assert (outcome.did, "already exists" in outcome.reason) == ("failed", True)
        assert indexes(engine) == {A.name: True}
        assert undo_indexes(engine) == []

    def test_replaces_an_invalid_index(self, engine):
        leave_invalid(engine, A)
        assert apply_indexes(engine, [A]) == [Outcome(A.name, "built")]
        assert indexes(engine) == {A.name: True}

    def test_reports_one_that_fails_and_builds_the_others(self, engine):
        missing = Index("postgresql", "t", (IndexColumn("nothing"),))
        outcomes = apply_indexes(engine, [missing, A])
        assert outcomes == [
            Outcome(missing.name, "failed", 'column "nothing" does not exist'),
            Outcome(A.name, "built"),
        ]
        assert indexes(engine) == {A.name: True}

    def test_leaves_another_tables_index_of_the_same_name_alone(self, engine):
        run(engine, "CREATE TABLE u (x int)", f"CREATE INDEX {A.name} ON u (x)")
        (outcome,) = apply_indexes(engine, [A])
        assert (outcome.did, "already exists" in outcome.reason) == ("failed", True)
        assert indexes(engine) == {A.name: True}

    def test_removes_what_a_failed_build_left(self, engine, monkeypatch):
        monkeypatch.setattr(build, "_SETTINGS", "SET lock_timeout = '300ms'")
        with holding(engine, SNAPSHOT):
            (outcome,) = apply_indexes(engine, [A])
            assert indexes(engine) == {}
        assert outcome.did == "failed"
        assert outcome.reason.endswith("(a transaction of another session was open for too long)")

    def test_says_so_where_it_could_not(self, engine, monkeypatch):
        monkeypatch.setattr(build, "_SETTINGS", "SET lock_timeout = '300ms'")
        monkeypatch.setattr(build, "_CLEANING", "SET lock_timeout = '300ms'")
        with holding(engine, WRITE):
            (outcome,) = apply_indexes(engine, [A])
            assert indexes(engine) == {A.name: False}
        assert "`upshift index apply --undo` removes it later" in outcome.reason
        assert undo_indexes(engine) == [Outcome(A.name, "removed")]

    def test_outlives_a_statement_timeout_of_the_role(self, engine):
        run(engine, "ALTER ROLE postgres SET statement_timeout = '300ms'")
        try:
            with ThreadPoolExecutor() as pool, holding(engine, SNAPSHOT):
                built = pool.submit(apply_indexes, engine, [A])
                wait_until_invalid(engine, A.name)
                time.sleep(0.6)
                assert not built.done()
            assert built.result() == [Outcome(A.name, "built")]
        finally:
            run(engine, "ALTER ROLE postgres RESET statement_timeout")

    def test_refuses_an_index_for_another_kind_of_database(self, engine):
        with pytest.raises(IndexAdviceError, match="for sqlite"):
            apply_indexes(engine, [A, Index("sqlite", "t", (IndexColumn("a"),))])
        assert indexes(engine) == {}

    def test_leaves_the_sessions_of_a_pool_as_they_were(self, postgres_database, engine):
        pooled = sa.create_engine(postgres_database, pool_size=1, max_overflow=0)
        apply_indexes(pooled, [A])
        with pooled.connect() as connection:
            assert connection.exec_driver_sql("SHOW lock_timeout").scalar() == "0"
            assert (
                connection.exec_driver_sql(
                    "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
                ).scalar()
                == 0
            )
        pooled.dispose()

    def test_two_at_once_build_each_index_once(self, engine):
        with ThreadPoolExecutor() as pool:
            first, second = (pool.submit(apply_indexes, engine, [A, B]) for _ in range(2))
        outcomes = [*first.result(), *second.result()]
        assert sorted(outcome.did for outcome in outcomes) == ["built", "built", "kept", "kept"]
        assert indexes(engine) == {A.name: True, B.name: True}

    def test_gives_up_when_another_build_goes_on(self, engine, monkeypatch):
        monkeypatch.setattr(exclusive, "LOCK_SECONDS", 0.3)
        with engine.connect() as other:
            other.exec_driver_sql(f"SELECT pg_advisory_lock({exclusive.LOCK})")
            with pytest.raises(MaintenanceError, match="on this database already"):
                apply_indexes(engine, [A])
        assert indexes(engine) == {}

    def test_a_database_that_is_down_is_reported(self, unused_tcp_port):
        with pytest.raises(DatabaseUnavailableError):
            apply_indexes(engine_for(f"postgresql://u@127.0.0.1:{unused_tcp_port}/d"), [A])


class TestUndo:
    def test_removes_what_was_built(self, engine):
        apply_indexes(engine, [A, QUOTED])
        removed = undo_indexes(engine)
        assert sorted(removed, key=str) == sorted(
            [Outcome(each.name, "removed") for each in (A, QUOTED)], key=str
        )
        assert indexes(engine) == {}

    def test_removes_nothing_else(self, engine):
        run(
            engine,
            "CREATE INDEX mine ON t (id, a)",
            "CREATE INDEX upshift_mine ON t (b)",
            "CREATE INDEX upshift_mine_0123abcd ON t (b)",
            "COMMENT ON INDEX mine IS 'upshift: not by that name'",
            B.create_sql,
        )
        apply_indexes(engine, [A])
        assert undo_indexes(engine) == [Outcome(A.name, "removed")]
        assert indexes(engine) == {
            "mine": True,
            "upshift_mine": True,
            "upshift_mine_0123abcd": True,
            B.name: True,
        }

    def test_removes_an_invalid_index_that_was_left(self, engine):
        leave_invalid(engine, A)
        assert undo_indexes(engine) == [Outcome(A.name, "removed")]
        assert indexes(engine) == {}

    def test_does_not_touch_what_another_session_is_building(self, engine):
        with ThreadPoolExecutor() as pool, holding(engine, SNAPSHOT):
            pool.submit(run, engine, A.create_sql)
            wait_until_invalid(engine, A.name)
            assert undo_indexes(engine) == []
            assert apply_indexes(engine, [A]) == [Outcome(A.name, "failed", "another session is building it")]
        assert indexes(engine) == {A.name: True}

    def test_twice_does_nothing_more(self, engine):
        apply_indexes(engine, [A])
        undo_indexes(engine)
        assert undo_indexes(engine) == []

    def test_reports_one_that_it_may_not_remove(self, engine):
        apply_indexes(engine, [A])
        run(engine, "CREATE ROLE guest_of_build LOGIN")
        try:
            guest = sa.create_engine(engine.url.set(username="guest_of_build"), poolclass=NullPool)
            (outcome,) = undo_indexes(guest)
        finally:
            run(engine, "DROP ROLE guest_of_build")
        assert (outcome.did, outcome.reason) == ("failed", f"must be owner of index {A.name}")


CHILD = """
    import sys
    from upshift.sql.indexes.build import apply_indexes
    from upshift.sql.engines import engine_for
    from upshift.sql.indexes.index import Index, IndexColumn
    apply_indexes(engine_for(sys.argv[1]), [Index("postgresql", "t", (IndexColumn("a"),))])
"""


class TestInterrupted:
    @pytest.fixture
    def builder(self, postgres_database) -> Iterator[subprocess.Popen[str]]:
        command = [sys.executable, "-c", textwrap.dedent(CHILD), postgres_database]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=dict(os.environ))
        yield process
        process.kill()
        process.communicate()

    def test_ctrl_c_removes_the_unfinished_index(self, engine, builder):
        with holding(engine, SNAPSHOT):
            wait_until_invalid(engine, A.name)
            builder.send_signal(signal.SIGINT)
            _, errors = builder.communicate(timeout=60)
            assert errors.rstrip().endswith("KeyboardInterrupt")
            assert indexes(engine) == {}

    def test_after_sigkill_the_next_apply_replaces_the_unfinished_index(self, engine, builder):
        with holding(engine, SNAPSHOT):
            wait_until_invalid(engine, A.name)
            builder.kill()
            wait_until_unlocked(engine)
            assert indexes(engine) == {A.name: False}
        assert apply_indexes(engine, [A]) == [Outcome(A.name, "built")]
        assert undo_indexes(engine) == [Outcome(A.name, "removed")]

    def test_a_session_that_the_server_ends_is_reported_and_leaves_nothing(self, engine):
        terminate = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'CREATE INDEX%'"
        with ThreadPoolExecutor() as pool, holding(engine, SNAPSHOT):
            built = pool.submit(apply_indexes, engine, [A])
            wait_until_invalid(engine, A.name)
            run(engine, terminate)
            with pytest.raises(DatabaseUnavailableError, match="lost the connection"):
                built.result()
            assert indexes(engine) == {}
