"""A small shop on a real PostgreSQL, read by all tests of index advice, which leave it as it is."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from upshift.testing.servers import PostgresServer

SHOP = """
    CREATE TABLE event (id int PRIMARY KEY, tenant int, kind text, ts timestamptz, payload text);
    INSERT INTO event
        SELECT i, i % 5, 'kind ' || i % 7, now() - i * interval '1 minute', repeat('x', 60)
        FROM generate_series(1, 20000) i;

    CREATE TABLE customer (id int PRIMARY KEY, email text NOT NULL, city text);
    INSERT INTO customer
        SELECT i, 'c' || i || '@example.org', 'city ' || i % 90 FROM generate_series(1, 3000) i;

    CREATE TABLE purchase (id int PRIMARY KEY, customer_id int NOT NULL, placed date, total numeric);
    INSERT INTO purchase
        SELECT i, 1 + i % 3000, date '2026-01-01' + i % 300, i FROM generate_series(1, 12000) i;

    CREATE TABLE item (
        id int PRIMARY KEY,
        purchase_id int NOT NULL,
        qty int,
        twice int GENERATED ALWAYS AS (qty * 2) STORED,
        thrice int GENERATED ALWAYS AS (qty * 3) VIRTUAL
    );
    INSERT INTO item (id, purchase_id, qty)
        SELECT i, 1 + i % 12000, i % 9000 FROM generate_series(1, 30000) i;

    CREATE TABLE "Big ""Order%" ("Customer Id" int, "select" text);
    INSERT INTO "Big ""Order%" SELECT i % 2000, 'x' FROM generate_series(1, 20000) i;

    CREATE TABLE counted (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, owner int, note text);
    INSERT INTO counted (owner) SELECT i % 5000 FROM generate_series(1, 20000) i;
    CREATE INDEX counted_owner ON counted (owner, note);

    CREATE TABLE tiny (id int PRIMARY KEY, a int);
    INSERT INTO tiny SELECT i, i FROM generate_series(1, 200) i;

    CREATE VIEW busy AS SELECT * FROM event;

    CREATE TABLE parted (id int, owner int) PARTITION BY RANGE (id);
    CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (0) TO (100000);
    INSERT INTO parted SELECT i, i % 5000 FROM generate_series(1, 20000) i;

    CREATE SCHEMA depot;
    CREATE TABLE depot.stock (id int, product int);
    INSERT INTO depot.stock SELECT i, i % 5000 FROM generate_series(1, 20000) i;

    CREATE TABLE secret (id int, owner int);
    INSERT INTO secret SELECT i, i % 5000 FROM generate_series(1, 20000) i;
    ALTER TABLE secret ENABLE ROW LEVEL SECURITY;
    CREATE POLICY own ON secret USING (id < 15000);

    CREATE ROLE clerk LOGIN;
    GRANT SELECT ON secret, purchase TO clerk;
    GRANT SELECT (id, email) ON customer TO clerk;
"""


def run(engine: sa.Engine, *statements: str) -> None:
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT", no_parameters=True) as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)


@pytest.fixture(scope="session")
def shop(postgres_server: PostgresServer) -> Iterator[sa.Engine]:
    postgres_server.create_database("shop")
    engine = sa.create_engine(postgres_server.url("shop", driver="psycopg"), poolclass=NullPool)
    run(engine, SHOP, "ANALYZE")
    yield engine
    run(engine, "DROP OWNED BY clerk", "DROP ROLE clerk")
    postgres_server.drop_database("shop")


@pytest.fixture
def clerk(shop: sa.Engine) -> sa.Engine:
    """The shop as seen by a role that may read little of it."""
    return sa.create_engine(shop.url.set(username="clerk"), poolclass=NullPool)
