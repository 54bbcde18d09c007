"""`upshift db` on real databases."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing

import pytest
import sqlalchemy as sa
from click.testing import CliRunner, Result
from sqlalchemy.pool import NullPool

from upshift.cli.commands import upshift


def command(*arguments: str) -> Result:
    return CliRunner().invoke(upshift, arguments)


def run(engine: sa.Engine, *statements: str) -> None:
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT", no_parameters=True) as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)
            connection.exec_driver_sql("SELECT pg_stat_force_next_flush()")


@pytest.fixture
def engine(postgres_database: str) -> sa.Engine:
    engine = sa.create_engine(postgres_database, poolclass=NullPool)
    run(
        engine,
        "CREATE TABLE worn (a int PRIMARY KEY) WITH (autovacuum_enabled = off)",
        "INSERT INTO worn SELECT generate_series(1, 60000)",
        "ANALYZE worn",
        "DELETE FROM worn WHERE a <= 30000",
        "CREATE TABLE fresh (a int) WITH (autovacuum_enabled = off)",
        "INSERT INTO fresh SELECT generate_series(1, 5000)",
    )
    return engine


@pytest.fixture
def url(engine: sa.Engine) -> str:
    return engine.url.render_as_string(hide_password=False)


def test_it_tells_what_is_needed_with_the_reason_and_does_nothing(url):
    result = command("db", "--url", url)
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [
        "-- 30,000 dead rows, 50% of all; vacuumed never",
        'VACUUM (ANALYZE) "public"."worn";',
        "-- it was never analysed",
        'ANALYZE "public"."fresh";',
    ]
    assert command("db", "--url", url).stdout == result.stdout


def test_a_command_prints_what_it_would_do_until_it_is_told_to(url):
    dry = command("db", "--url", url, "vacuum")
    assert dry.stdout.splitlines()[-1] == 'VACUUM (ANALYZE) "public"."worn";'
    assert "nothing was done; --yes does it" in dry.stderr
    done = command("db", "--url", url, "vacuum", "--yes")
    assert (done.exit_code, done.stdout) == (0, 'done    VACUUM (ANALYZE) "public"."worn"\n')
    assert command("db", "--url", url, "vacuum").stdout == ""


def test_named_tables_are_done_whether_they_need_it_or_not(url):
    done = command("db", "--url", url, "analyze", "worn", "public.fresh", "--yes")
    assert done.stdout.splitlines() == ['done    ANALYZE "public"."worn"', 'done    ANALYZE "public"."fresh"']


def test_an_index_is_named_like_a_table(url):
    result = command("db", "--url", url, "reindex", "worn_pkey")
    assert result.stdout == 'REINDEX INDEX CONCURRENTLY "public"."worn_pkey";\n'
    assert command("db", "--url", url, "reindex", "worn", "--blocking").stdout == (
        'REINDEX TABLE "public"."worn";\n'
    )


def test_a_partitioned_table_is_reindexed_by_its_partitions(engine, url):
    run(
        engine,
        "CREATE TABLE p (a int PRIMARY KEY) PARTITION BY RANGE (a)",
        "CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (9)",
        "CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (9) TO (20)",
    )
    done = command("db", "--url", url, "reindex", "p", "--yes")
    assert done.stdout.splitlines() == [
        'done    REINDEX TABLE CONCURRENTLY "public"."p1"',
        'done    REINDEX TABLE CONCURRENTLY "public"."p2"',
    ]


def test_hostile_names_move_no_cursor(engine, url):
    run(engine, 'CREATE TABLE "x\x1b[31m\n--" (a int)')
    done = command("db", "--url", url, "analyze", "x\x1b[31m\n--", "--yes")
    assert done.exit_code == 0, done.output
    assert "\x1b" not in done.output
    assert len(done.stdout.splitlines()) == 1


@pytest.mark.parametrize("name", ["nothing", "public.nothing", "\x1b[31m"])
def test_a_table_that_is_not_there_is_told(url, name):
    result = command("db", "--url", url, "analyze", name, "--yes")
    assert (result.exit_code, "there is no table" in result.stderr, "\x1b" in result.stderr) == (
        2,
        True,
        False,
    )


def test_a_name_in_several_schemas_has_to_be_told_apart(engine, url):
    run(engine, "CREATE SCHEMA other", "CREATE TABLE other.worn (a int)")
    result = command("db", "--url", url, "analyze", "worn", "--yes")
    assert (result.exit_code, "several schemas" in result.stderr) == (2, True)
    assert command("db", "--url", url, "analyze", "other.worn", "--yes").exit_code == 0


def test_what_fails_is_told_and_the_exit_status_says_so(engine, url):
    with engine.connect() as other:
        other.exec_driver_sql("LOCK TABLE worn IN ACCESS EXCLUSIVE MODE")
        result = command("db", "--url", url, "vacuum", "worn", "--yes", "--lock-timeout", "0.2")
    assert result.exit_code == 1
    assert "failed  VACUUM" in result.stdout
    assert "another session holds the table" in result.stdout


def test_another_users_table_is_a_failure(engine, url):
    run(engine, "CREATE ROLE visitor LOGIN", "GRANT SELECT ON worn TO visitor")
    try:
        visitor = engine.url.set(username="visitor").render_as_string(hide_password=False)
        result = command("db", "--url", visitor, "vacuum", "worn", "--yes")
    finally:
        run(engine, "REVOKE ALL ON worn FROM visitor", "DROP ROLE visitor")
    assert (result.exit_code, "only its owner" in result.stdout) == (1, True)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["db"], "--url is missing"),
        (["db", "--url", "postgresql://127.0.0.1:1/nothing"], "cannot connect"),
        (["db", "--url", "oracle://host/x"], "knows PostgreSQL and SQLite"),
    ],
)
def test_a_database_that_cannot_be_asked_is_told(arguments, told):
    result = CliRunner().invoke(upshift, arguments, env={"DATABASE_URL": None, "UPSHIFT_DATABASE_URL": None})
    assert (result.exit_code, told in result.stderr) == (2, True)


def test_ctrl_c_ends_it_and_leaves_nothing_invalid(engine, url):
    invalid = sa.text("SELECT count(*) FROM pg_index WHERE NOT indisvalid")
    with engine.connect().execution_options(isolation_level="REPEATABLE READ") as other:
        other.exec_driver_sql("SELECT 1")  # the last phase of a reindex waits for this snapshot
        arguments = ["db", "--url", url, "reindex", "worn", "--yes", "--lock-timeout", "60"]
        process = subprocess.Popen([sys.executable, "-m", "upshift", *arguments], env=dict(os.environ))
        try:
            deadline = time.monotonic() + 30
            with engine.connect() as connection:
                while not connection.scalar(invalid):
                    assert time.monotonic() < deadline
                    time.sleep(0.05)
                    connection.rollback()
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == 130
        finally:
            process.kill()
        with engine.connect() as connection:
            assert connection.scalar(invalid) == 0


class TestSqlite:
    @pytest.fixture
    def url(self, tmp_path) -> str:
        path = tmp_path / "shop.db"
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT)")
            connection.execute("CREATE INDEX t_b ON t (b)")
            connection.execute("INSERT INTO t VALUES (1, 'x')")
        return f"sqlite:///{path}"

    def test_what_is_needed_is_told_and_done(self, url):
        assert command("db", "--url", url).stdout == '-- it was never analysed\nANALYZE "t";\n'
        assert command("db", "--url", url, "analyze", "--yes").stdout == 'done    ANALYZE "t"\n'
        assert command("db", "--url", url).stdout == ""

    def test_a_vacuum_is_of_the_whole_file(self, url):
        result = command("db", "--url", url, "vacuum", "t", "--yes")
        assert (result.exit_code, "whole files" in result.stderr) == (2, True)

    def test_a_table_that_is_not_there_is_told(self, url):
        result = command("db", "--url", url, "reindex", "nothing", "--yes")
        assert (result.exit_code, "there is no table nothing" in result.stderr) == (2, True)
