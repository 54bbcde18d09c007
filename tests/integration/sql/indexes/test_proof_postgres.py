"""What is advised for a whole workload on PostgreSQL: kinds of indexes, writes counted, faults on the way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from upshift.errors import IndexAdviceError
from upshift.sql.indexes.advice import AdviceReport
from upshift.sql.indexes.advisor import advise
from upshift.sql.indexes.build import apply_indexes, undo_indexes
from upshift.sql.indexes.built import built_indexes
from upshift.sql.indexes.workload import Work
from upshift.sql.placeholders import Sample
from upshift.testing.servers import PostgresServer

SCHEMA = """
    CREATE EXTENSION IF NOT EXISTS pg_trgm;
    CREATE TABLE account (id int PRIMARY KEY, email text NOT NULL, name text, note text);
    INSERT INTO account
        SELECT i, 'User' || i || '@Example.org', md5(i::text), repeat('n', 60)
        FROM generate_series(1, 20000) i;
    CREATE TABLE document (id int PRIMARY KEY, tags text[], data jsonb);
    INSERT INTO document
        SELECT i, ARRAY['t' || i % 900], jsonb_build_object('k', i % 900) FROM generate_series(1, 20000) i;
    CREATE TABLE job (id int PRIMARY KEY, state text, owner int, run_at timestamp, attempts int, body text);
    INSERT INTO job
        SELECT i, CASE WHEN i % 200 = 0 THEN 'queued' ELSE 'done' END, i % 3000,
               timestamp '2026-01-01' + i * interval '1 minute', i % 5000, repeat('b', 80)
        FROM generate_series(1, 40000) i;
"""


def run(engine: sa.Engine, *statements: str) -> None:
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT", no_parameters=True) as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)


@pytest.fixture(scope="module")
def works(postgres_server: PostgresServer) -> Iterator[sa.Engine]:
    postgres_server.create_database("works")
    engine = sa.create_engine(postgres_server.url("works", driver="psycopg"), poolclass=NullPool)
    run(engine, SCHEMA, "VACUUM ANALYZE")
    yield engine
    postgres_server.drop_database("works")


def advised(engine: sa.Engine, *works: Work | Sample, **options: Any) -> list[str]:
    return sorted(str(each.index) for each in advise(engine, works, **options).advices)


QUEUE = Work(
    "SELECT id, body FROM job WHERE state = %(state)s ORDER BY run_at LIMIT 5", ({"state": "queued"},), 50
)
OWNED = Work("SELECT * FROM job WHERE owner = %(owner)s", ({"owner": 7}, {"owner": 8}), 20)


class TestKinds:
    def test_a_function_of_a_column(self, works):
        sql = "SELECT id FROM account WHERE lower(email) = lower(%(email)s)"
        assert advised(works, Work(sql, ({"email": "USER7@example.org"},))) == ["account (lower(email))"]

    def test_a_part_of_a_text(self, works):
        sql = "SELECT id FROM account WHERE name ILIKE %(part)s"
        found = advised(works, Work(sql, ({"part": "%c4ca4238%"},)))
        assert found == ["account using gin (name gin_trgm_ops)"]

    def test_a_part_of_an_array_and_of_a_document(self, works):
        tags = Work("SELECT id FROM document WHERE tags @> %(tags)s::text[]", ({"tags": ["t7"]},))
        data = Work("SELECT id FROM document WHERE data @> %(data)s::jsonb", ({"data": '{"k": 7}'},))
        assert advised(works, tags, data) == [
            "document using gin (data jsonb_path_ops)",
            "document using gin (tags)",
        ]

    def test_the_rows_of_a_rare_constant(self, works):
        (found,) = advised(works, QUEUE)
        assert found in {"job (run_at) where state = 'queued'", "job (state, run_at)"}

    def test_the_columns_that_are_read(self, works, monkeypatch):
        sql = "SELECT sum(attempts) FROM job WHERE owner BETWEEN %(low)s AND %(high)s"
        # How much the columns gain is a matter of time, which decides no test: here any gain will do.
        monkeypatch.setattr("upshift.sql.indexes.proof._LEAN", 0.0)
        monkeypatch.setattr("upshift.sql.indexes.trial._PostgresTrial.least_measure", -1e9)
        (found,) = advised(works, Work(sql, ({"low": 100, "high": 400},), 100))
        assert found in {"job (owner) include (attempts)", "job (owner, attempts)"}

    def test_what_is_advised_is_built_kept_and_not_advised_again(self, works):
        sql = "SELECT id FROM account WHERE lower(email) = lower(%(email)s)"
        statements = [Work(sql, ({"email": "USER7@example.org"},)), QUEUE]
        indexes = [each.index for each in advise(works, statements).advices]
        try:
            assert {each.did for each in apply_indexes(works, indexes)} == {"built"}
            assert {each.did for each in apply_indexes(works, indexes)} == {"kept"}
            run(works, "ANALYZE")
            assert advised(works, *statements) == []
            built = built_indexes(works)
            assert {each.name for each in built} == {index.name for index in indexes}
            assert all(each.size and each.is_valid for each in built)
        finally:
            undo_indexes(works)
        assert built_indexes(works) == []


class TestTheWorkload:
    def test_figures_tell_what_was_gained_and_what_it_costs(self, works):
        (advice,) = advise(works, [OWNED]).advices
        (served,) = advice.served
        assert served.measure_before > served.measure_after > 0
        assert served.calls == OWNED.calls
        assert advice.figures.gain == pytest.approx(20 * (served.measure_before - served.measure_after))
        assert advice.figures.upkeep == 0
        assert advice.figures.entry >= 0
        assert advice.figures.size > 8192
        assert advice.figures.sample == 1.0

    def test_an_index_is_not_advised_where_writing_costs_more_than_reading_gains(self, works):
        seldom = Work("SELECT count(*) FROM job WHERE attempts = %(n)s", ({"n": 7},), 1)
        insert = Work("INSERT INTO job (id, attempts) VALUES (%(id)s, 3)", ({"id": 1_000_001},), 1_000_000, 1)
        touch = Work("UPDATE job SET attempts = attempts + 1 WHERE id = %(id)s", ({"id": 5},), 1_000_000, 1)
        assert advised(works, seldom) == ["job (attempts)"]
        assert advised(works, seldom, insert) == []
        assert advised(works, seldom, touch) == []

    def test_a_write_finds_its_rows_by_an_index_too(self, works):
        sql = "UPDATE job SET body = 'x' WHERE owner = %(owner)s"
        assert advised(works, Work(sql, ({"owner": 7},), 10, 13)) == ["job (owner)"]

    def test_statements_share_an_index(self, works):
        both = Work("SELECT * FROM job WHERE owner = 5 AND run_at > timestamp '2026-01-20'", calls=20)
        (found,) = advised(works, OWNED, both)
        assert found.startswith("job (owner")

    def test_writes_that_are_measured_leave_nothing(self, works):
        count = "SELECT count(*), sum(hashtext(body)) FROM job"
        with works.connect() as connection:
            before = connection.exec_driver_sql(count).one()
            advise(works, [Work("DELETE FROM job WHERE owner = 7", calls=5), OWNED])
            assert connection.exec_driver_sql(count).one() == before

    @pytest.mark.parametrize(
        "sql",
        [
            "SELECT setval('ticket', 99) FROM job WHERE owner = 5",
            "SELECT pg_advisory_lock(owner) FROM job WHERE owner = 5",
            "SELECT spend(id) FROM job WHERE owner = 5",
            "SELECT * FROM job WHERE owner = 5 AND id = spend(id)",
        ],
    )
    def test_what_calls_functions_that_change_something_is_planned_and_not_executed(self, works, sql):
        run(
            works,
            "CREATE SEQUENCE IF NOT EXISTS ticket",
            "CREATE OR REPLACE FUNCTION spend(int) RETURNS int VOLATILE LANGUAGE sql "
            "AS 'SELECT nextval(''ticket'')::int'",
        )
        report = advise(works, [Sample(sql)])
        assert all(served.measure_before is None for each in report.advices for served in each.served)
        with works.connect() as connection:
            assert connection.exec_driver_sql("SELECT last_value FROM ticket").scalar_one() == 1


# A copy is not to be seen from outside of its transaction, but for its files, which begin with a `t`.
LEFT = r"""
    SELECT (SELECT count(*) > 0 FROM pg_ls_dir('base/' || d.oid) AS file WHERE file LIKE 't%\_%'),
           (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid <> pg_backend_pid())
    FROM pg_database d WHERE datname = current_database()
"""

KILLED = """
import sys, time
import sqlalchemy as sa
from sqlalchemy.pool import NullPool
from upshift.sql.indexes.advisor import advise
from upshift.sql.placeholders import Sample

def wait(progress):
    if progress.startswith("trying"):
        print("trying", flush=True)
        time.sleep(60)

advise(
    sa.create_engine(sys.argv[1], poolclass=NullPool),
    [Sample("SELECT * FROM job WHERE owner = 5")],
    on_progress=wait,
)
"""


@contextmanager
def paused(engine: sa.Engine) -> Iterator[subprocess.Popen[str]]:
    """A process that seeks indexes, and waits with a copy made and its lock held."""
    url = engine.url.render_as_string(hide_password=False)
    command = [sys.executable, "-c", KILLED, url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            assert process.stdout.readline() == "trying\n"
            yield process
        finally:
            process.kill()


def left(engine: sa.Engine) -> tuple[Any, ...]:
    """Whether there are files of temporary tables, and how many advisory locks other sessions hold."""
    with engine.connect() as connection:
        return tuple(connection.execute(sa.text(LEFT)).one())


class TestFaults:
    def test_a_run_that_is_killed_leaves_no_copy_and_no_lock(self, works):
        with paused(works) as process:
            assert left(works) == (True, 1)
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            deadline = time.monotonic() + 20
            while left(works) != (False, 0):
                assert time.monotonic() < deadline
                time.sleep(0.1)
        assert advised(works, OWNED) == ["job (owner)"]

    def test_while_it_runs_the_application_may_alter_its_tables(self, works):
        with paused(works), works.connect() as connection:
            connection.exec_driver_sql("SET lock_timeout = '3s'")
            connection.exec_driver_sql("LOCK TABLE job IN ACCESS EXCLUSIVE MODE")
            connection.rollback()

    def test_a_second_run_on_the_same_database_is_refused_after_a_while(self, works, monkeypatch):
        monkeypatch.setattr("upshift.sql.indexes.trial.LOCK_SECONDS", 0.5)
        with paused(works), pytest.raises(IndexAdviceError, match="sought for this database already"):
            advise(works, [OWNED])

    def test_a_statement_that_takes_too_long_is_stopped_and_counts_as_that_long(self, works, monkeypatch):
        monkeypatch.setattr("upshift.sql.indexes.trial.STATEMENT_SECONDS", 0.05)
        monkeypatch.setattr(
            "upshift.sql.indexes.trial._MEASURING",
            "SET LOCAL transaction_read_only = on; SET LOCAL statement_timeout = 50",
        )
        sql = "SELECT count(*) FROM job a JOIN job b ON a.attempts < b.attempts + 1 WHERE a.owner = %(o)s"
        report = advise(works, [Work(sql, ({"o": 5},))])
        assert isinstance(report, AdviceReport)
        for each in report.advices:
            assert all(served.measure_before <= 50.0 for served in each.served if served.measure_before)

    def test_without_time_nothing_is_tried(self, works):
        assert advised(works, OWNED, max_seconds=0.0) == []

    def test_a_copy_that_fails_half_way_is_given_up_and_the_rest_goes_on(self, works, monkeypatch):
        """As a full disk would make it fail: by an error while its rows come in."""
        monkeypatch.setattr("upshift.sql.indexes.copying._LIMITS", "SET LOCAL statement_timeout = 1")
        slow = Work("SELECT * FROM slow_view_of_job WHERE owner = 5")
        report = advise(works, [OWNED, slow])
        assert not report.advices
        assert {each.kind for each in report.skipped} == {"not tried", "refused"}
        assert "could not be copied" in report.skipped[-1].reason + report.skipped[0].reason

    def test_all_copies_together_are_bounded(self, works, monkeypatch):
        monkeypatch.setattr("upshift.sql.indexes.trial.MAX_COPIES", 1)
        other = Work("SELECT * FROM account WHERE name = 'x'", calls=2)
        report = advise(works, [OWNED, other], max_copy_bytes=5_000_000)
        assert [each.table for each in report.advices] == ["job"]
        (skip,) = report.skipped
        assert skip.reason.startswith("account: the copies of other tables hold ")

    def test_hypothetical_indexes_need_hypopg(self, works):
        with pytest.raises(IndexAdviceError, match="CREATE EXTENSION hypopg"):
            advise(works, [OWNED], how="hypothetical")

    def test_parameters_do_not_show_in_what_is_told(self, works):
        secret = Work(
            "SELECT * FROM account WHERE name = %(name)s", ({"name": "c4ca4238a0b923820dcc509a6f75849b"},)
        )
        report = advise(works, [secret])
        assert report.advices
        assert "c4ca4238" not in repr([each.to_dict() for each in report.advices])
