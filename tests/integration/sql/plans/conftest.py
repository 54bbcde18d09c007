"""A few tables on a real PostgreSQL, read by all tests of plans."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from upshift.testing.servers import PostgresServer

TABLES = """
    CREATE TABLE event (
        id int PRIMARY KEY, tenant int, kind varchar(20), code char(8), amount numeric, created timestamptz,
        plain int
    );
    INSERT INTO event
        SELECT i, i % 5, 'kind ' || i % 7, 'c' || i % 900, i, now() - i * interval '1 minute', i
        FROM generate_series(1, 20000) i;
    CREATE INDEX event_kind ON event (kind);
    CREATE INDEX event_code ON event (code);
    CREATE INDEX event_amount ON event (amount);

    CREATE TABLE pair (a int, b int, note text);
    INSERT INTO pair SELECT i % 200, i % 200, 'x' FROM generate_series(1, 60000) i;

    CREATE TABLE "Odd ""Table%" ("Id ""1%" int PRIMARY KEY);
    INSERT INTO "Odd ""Table%" SELECT generate_series(1, 3000);

    CREATE SEQUENCE counter;
    CREATE VIEW locking AS SELECT id, pg_try_advisory_lock(id) AS held FROM event;
    CREATE TABLE guarded (id int);
    CREATE FUNCTION noisy(int) RETURNS bool LANGUAGE plpgsql VOLATILE AS $$ BEGIN RETURN true; END $$;
    CREATE FUNCTION calm(int) RETURNS int LANGUAGE sql IMMUTABLE PARALLEL SAFE AS 'SELECT $1 + 1';
    ALTER TABLE guarded ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
    CREATE POLICY own ON guarded USING (noisy(id));
    CREATE ROLE reader;
    GRANT SELECT ON guarded TO reader;
"""


def run(engine: sa.Engine, *statements: str) -> None:
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT", no_parameters=True) as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)


@pytest.fixture(scope="session")
def planned(postgres_server: PostgresServer) -> Iterator[sa.Engine]:
    postgres_server.create_database("planned")
    engine = sa.create_engine(postgres_server.url("planned", driver="psycopg"), poolclass=NullPool)
    run(engine, TABLES, "ANALYZE")
    yield engine
    run(engine, "DROP OWNED BY reader", "DROP ROLE reader")
    postgres_server.drop_database("planned")
