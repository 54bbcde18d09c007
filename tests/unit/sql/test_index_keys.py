"""Which keys a database's indexes have, as its catalogue tells them."""

from __future__ import annotations

import pytest
from sqlalchemy import create_engine

from upshift.sql.index_keys import IndexKeys, read_index_keys


@pytest.fixture
def engine(tmp_path):
    engine = create_engine(f"sqlite:///{tmp_path}/x.db")
    yield engine
    engine.dispose()


def made(engine, *statements):
    with engine.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)
    return read_index_keys(engine)


def test_columns_are_told_in_order_and_the_key_of_an_sqlite_table_is_its_own_index(engine):
    found = made(
        engine,
        "CREATE TABLE a (id INTEGER PRIMARY KEY, x TEXT, y TEXT UNIQUE)",
        "CREATE INDEX ix ON a (x, y)",
    )
    assert set(found) == {IndexKeys("a", ("x", "y")), IndexKeys("a", ("y",)), IndexKeys("a", ("id",))}


def test_an_index_on_an_expression_holds_it(engine):
    found = made(engine, "CREATE TABLE a (x TEXT)", "CREATE INDEX ix ON a (lower(x))")
    (index,) = found
    assert index.holds("LOWER(x)")
    assert not index.holds("UPPER(x)")
    assert index.names("x")


def test_postgresql_tells_expressions_and_trigrams(postgres_database):
    engine = create_engine(postgres_database)
    found = made(
        engine,
        "CREATE EXTENSION pg_trgm",
        'CREATE TABLE a (id int PRIMARY KEY, "Name" varchar, y text)',
        'CREATE INDEX ON a (lower("Name"), y)',
        "CREATE INDEX ON a USING gin (y gin_trgm_ops)",
    )
    engine.dispose()
    plain, expression, trigram = (each for each in found if each.table == "a")
    assert plain == IndexKeys("a", ("id",))
    assert expression.holds('LOWER("Name")')
    assert not expression.is_trigram
    assert trigram == IndexKeys("a", ("y",), is_trigram=True)
