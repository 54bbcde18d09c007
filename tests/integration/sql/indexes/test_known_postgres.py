"""A workload from what PostgreSQL counted itself, up to the findings of `upshift index advise`."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from click.testing import CliRunner
from sqlalchemy.pool import NullPool

from upshift.cli.commands import upshift
from upshift.errors import IndexAdviceError
from upshift.sql.indexes.known import counted_statements
from upshift.testing.servers import PostgresServer, postgres

SCHEMA = """
    CREATE EXTENSION pg_stat_statements;
    CREATE TABLE job (id int PRIMARY KEY, owner int, body text);
    INSERT INTO job SELECT i, mod(i, 3000), repeat('b', 80) FROM generate_series(1, 20000) i;
"""


@pytest.fixture(scope="module")
def engine() -> Iterator[sa.Engine]:
    with postgres(settings={"shared_preload_libraries": "pg_stat_statements"}) as server:
        server.create_database("counted")
        engine = sa.create_engine(server.url("counted", driver="psycopg"), poolclass=NullPool)
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql(SCHEMA)
            connection.exec_driver_sql("ANALYZE")
            connection.exec_driver_sql("SELECT pg_stat_statements_reset()")
            for owner in range(5):
                connection.execute(sa.text("SELECT * FROM job WHERE owner = :owner"), {"owner": owner})
            connection.exec_driver_sql("INSERT INTO job VALUES (90000, 1, 'x'), (90001, 2, 'y')")
            connection.exec_driver_sql("CREATE TABLE other (a int)")
        yield engine


def test_statements_come_with_their_calls_and_rows_and_nothing_else(engine):
    counted = {work.sql.split()[0]: work for work in counted_statements(engine)}
    assert counted["SELECT"].calls == 5
    assert (counted["INSERT"].calls, counted["INSERT"].rows) == (1, 2.0)
    assert set(counted) == {"SELECT", "INSERT"}


def test_advise_judges_them_by_the_planner(engine):
    url = engine.url.render_as_string(hide_password=False)
    result = CliRunner().invoke(upshift, ["index", "advise", "--url", url, "--format", "json"])
    assert result.exit_code == 0, result.output
    (finding,) = json.loads(result.stdout)["findings"]
    assert finding["title"] == "no index on job (owner)"
    assert finding["data"]["figures"] is None
    assert finding["data"]["served"][0]["calls"] == 5


def test_without_the_extension_it_is_named(postgres_server: PostgresServer, postgres_database: str):
    engine = sa.create_engine(postgres_database, poolclass=NullPool)
    with pytest.raises(IndexAdviceError, match="CREATE EXTENSION pg_stat_statements"):
        counted_statements(engine)
