"""Hypothetical indexes, where PostgreSQL has the extension HypoPG (Debian: postgresql-15-hypopg)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from upshift.sql.indexes import trial
from upshift.sql.indexes.advisor import advise
from upshift.sql.indexes.workload import Work
from upshift.testing.servers import postgres
from upshift.testing.servers.binaries import DEBIAN, Postgres

CONTROL = sorted(Path("/usr/share/postgresql").glob("*/extension/hypopg.control"))

pytestmark = pytest.mark.skipif(not CONTROL, reason="no PostgreSQL with HypoPG is installed")

SCHEMA = """
    CREATE EXTENSION hypopg;
    CREATE TABLE job (id int PRIMARY KEY, owner int, run_at timestamp, body text);
    INSERT INTO job SELECT i, mod(i, 3000), timestamp '2026-01-01' + i * interval '1 minute', repeat('b', 80)
        FROM generate_series(1, 40000) i;
"""

OWNED = Work("SELECT * FROM job WHERE owner = %(owner)s ORDER BY run_at LIMIT 3", ({"owner": 7},), 20)


@pytest.fixture(scope="module")
def engine() -> Iterator[sa.Engine]:
    version = CONTROL[-1].parents[1].name
    with pytest.MonkeyPatch.context() as patch:
        found = Postgres(DEBIAN / version / "bin")
        patch.setattr("upshift.testing.servers.postgres_server.find_postgres", lambda: found)
        with postgres() as server:
            server.create_database("works")
            engine = sa.create_engine(server.url("works", driver="psycopg"), poolclass=NullPool)
            with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                connection.exec_driver_sql(SCHEMA)
                connection.exec_driver_sql("VACUUM ANALYZE")
            yield engine


def test_without_a_copy_the_planner_alone_speaks_for_an_index(engine):
    told: list[str] = []
    (advice,) = advise(engine, [OWNED], how="hypothetical", on_progress=told.append).advices
    assert str(advice.index) == "job (owner, run_at)"
    assert (advice.verified, advice.figures) == ("hypothetical", None)
    assert advice.name in "".join(advice.served[0].plan_after)
    assert not [each for each in told if each.startswith("copying")]


def test_nothing_is_left_in_the_session(engine):
    pooled = sa.create_engine(engine.url, pool_size=1, max_overflow=0)
    advise(pooled, [OWNED], how="hypothetical")
    with pooled.connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM hypopg_list_indexes").scalar_one() == 0
    pooled.dispose()


def test_on_a_copy_candidates_are_hypothetical_and_what_is_chosen_is_built(engine, monkeypatch):
    built: list[str] = []
    original = trial._PostgresTrial.built

    def build(self, index):
        built.append(str(index))
        return original(self, index)

    monkeypatch.setattr(trial._PostgresTrial, "built", build)
    (advice,) = advise(engine, [OWNED]).advices
    assert advice.figures
    assert advice.figures.gain > 0
    assert built == ["job (owner, run_at)"]
