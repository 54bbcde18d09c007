"""How tables are kept, read from a real PostgreSQL."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from upshift.sql.maintenance.advice import advised, is_bloated
from upshift.sql.maintenance.tables import TableHealth, read_tables

GROWN = """
    CREATE TABLE shrunk (id int PRIMARY KEY, body text, other int) WITH (autovacuum_enabled = off);
    INSERT INTO shrunk SELECT i, repeat('x', 150), i FROM generate_series(1, 130000) i;
    CREATE INDEX shrunk_other ON shrunk (other, body);
    DELETE FROM shrunk WHERE id % 10 <> 0;
    CREATE TABLE roomy (id int, body text) WITH (fillfactor = 40, autovacuum_enabled = off);
    INSERT INTO roomy SELECT i, repeat('x', 150) FROM generate_series(1, 60000) i;
    CREATE TABLE nullable (id int, body text, more text) WITH (autovacuum_enabled = off);
    INSERT INTO nullable SELECT i, CASE WHEN i % 3 = 0 THEN repeat('y', i % 400) END, NULL
        FROM generate_series(1, 60000) i;
    CREATE TABLE wide (id int, body text) WITH (autovacuum_enabled = off);
    INSERT INTO wide SELECT i, (SELECT string_agg(md5((i * j)::text), '') FROM generate_series(1, 100) j)
        FROM generate_series(1, 2000) i
"""


@pytest.fixture(scope="session")
def grown(postgres_server):
    postgres_server.create_database("grown")
    engine = sa.create_engine(postgres_server.url("grown", driver="psycopg"), poolclass=NullPool)
    run(engine, *GROWN.split(";"), "VACUUM ANALYZE")
    yield engine
    postgres_server.drop_database("grown")


@pytest.fixture
def engine(postgres_database: str) -> sa.Engine:
    return sa.create_engine(postgres_database, poolclass=NullPool)


def run(engine: sa.Engine, *statements: str) -> None:
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT", no_parameters=True) as connection:
        for statement in (*statements, "SELECT pg_stat_force_next_flush()"):
            connection.exec_driver_sql(statement)


def tables(engine: sa.Engine) -> dict[str, TableHealth]:
    with engine.begin() as connection:
        return {each.name: each for each in read_tables(connection)}


def test_a_table_after_a_large_delete_is_bloated_and_so_is_its_index(grown):
    shrunk = tables(grown)["shrunk"]
    assert is_bloated(shrunk)
    assert shrunk.bloat_share == pytest.approx(0.9, abs=0.05)
    wide_index = next(each for each in shrunk.indexes if each.name == "shrunk_other")
    assert wide_index.bloat > wide_index.size / 2
    assert 'REINDEX INDEX CONCURRENTLY "public"."shrunk_other"' in [work.sql for work in advised([shrunk])]


@pytest.mark.parametrize("name", ["roomy", "nullable", "wide"])
def test_a_table_that_is_full_or_leaves_room_on_purpose_is_not(grown, name):
    table = tables(grown)[name]
    assert table.bloat_share < 0.15


def test_an_estimate_is_near_to_what_pgstattuple_measures(grown):
    estimated = tables(grown)
    run(grown, 'CREATE SCHEMA "Ex ""tra"', 'CREATE EXTENSION pgstattuple SCHEMA "Ex ""tra"')
    try:
        measured = tables(grown)
    finally:
        run(grown, "DROP EXTENSION pgstattuple")
    assert measured["shrunk"].is_measured
    assert measured["shrunk"].bloat == pytest.approx(estimated["shrunk"].bloat, rel=0.1)


def test_dead_and_written_rows_are_counted(engine):
    run(
        engine,
        "CREATE TABLE t (a int) WITH (autovacuum_enabled = off)",
        "INSERT INTO t SELECT generate_series(1, 30000)",
    )
    run(engine, "ANALYZE t")
    run(engine, "DELETE FROM t WHERE a <= 20000")
    table = tables(engine)["t"]
    assert (table.live_rows, table.dead_rows, table.modified_rows) == (10_000, 20_000, 20_000)
    assert (table.vacuumed_at, table.analyzed_at is not None) == (None, True)


def test_a_table_that_was_never_analysed_has_no_estimate(engine):
    run(engine, "CREATE TABLE t (a int) WITH (autovacuum_enabled = off)", "INSERT INTO t VALUES (1)")
    table = tables(engine)["t"]
    assert (table.bloat, table.analyzed_at) == (None, None)


def test_partitioned_tables_and_materialised_views_are_told_apart(engine):
    run(
        engine,
        "CREATE TABLE p (a int) PARTITION BY RANGE (a)",
        "CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (9)",
        "CREATE MATERIALIZED VIEW m AS SELECT 1 AS a",
        "CREATE TEMPORARY TABLE gone (a int)",
    )
    assert {name: table.kind for name, table in tables(engine).items()} == {
        "p": "partitioned table",
        "p1": "table",
        "m": "materialised view",
    }


def test_a_table_that_somebody_locks_is_read_all_the_same(engine):
    run(engine, "CREATE TABLE t (a int)")
    with engine.connect() as other:
        other.exec_driver_sql("LOCK TABLE t IN ACCESS EXCLUSIVE MODE")
        assert "t" in tables(engine)


def test_hostile_names_are_names(engine):
    run(engine, 'CREATE SCHEMA "S ""1%"', 'CREATE TABLE "S ""1%"."T \'; DROP TABLE x; --" (a int)')
    (table,) = tables(engine).values()
    assert (table.schema, table.name) == ('S "1%', "T '; DROP TABLE x; --")


def test_a_user_who_may_not_maintain_is_told_so(engine):
    run(engine, "CREATE TABLE t (a int)", "CREATE ROLE looker LOGIN")
    try:
        looker = sa.create_engine(engine.url.set(username="looker"), poolclass=NullPool)
        assert tables(looker)["t"].may_maintain is False
    finally:
        run(engine, "DROP ROLE looker")
