"""Building and removing indexes on SQLite."""

from __future__ import annotations

import sqlite3

import pytest
import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from upshift.errors import IndexAdviceError
from upshift.sql.indexes.build import Outcome, apply_indexes, undo_indexes
from upshift.sql.indexes.built import built_indexes
from upshift.sql.indexes.index import Condition, Index, IndexColumn

A = Index("sqlite", "t", (IndexColumn("a"),))
B = Index("sqlite", 'Big "T', (IndexColumn("Be ta", descending=True), IndexColumn("a")))


@pytest.fixture
def engine(tmp_path) -> sa.Engine:
    connection = sqlite3.connect(tmp_path / "shop.db")
    connection.executescript('CREATE TABLE t (a INT, b INT); CREATE TABLE "Big ""T" ("Be ta" INT, a INT)')
    connection.close()
    return sa.create_engine(
        f"sqlite:///{tmp_path}/shop.db", poolclass=NullPool, connect_args={"timeout": 0.1}
    )


def indexes(engine: sa.Engine) -> set[str]:
    with engine.connect() as connection:
        return set(
            connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'index'").scalars()
        )


def run(engine: sa.Engine, sql: str) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql(sql)


def test_indexes_are_built(engine):
    assert apply_indexes(engine, [A, B]) == [Outcome(A.name, "built"), Outcome(B.name, "built")]
    assert indexes(engine) == {A.name, B.name}


def test_one_that_is_there_is_kept(engine):
    apply_indexes(engine, [A])
    assert apply_indexes(engine, [A]) == [Outcome(A.name, "kept")]


def test_one_of_another_name_that_serves_as_well_is_kept(engine):
    run(engine, "CREATE INDEX mine ON t (a, b)")
    assert apply_indexes(engine, [A]) == [Outcome(A.name, "kept")]
    assert indexes(engine) == {"mine"}


def test_one_that_fails_does_not_stop_the_others(engine):
    missing = Index("sqlite", "nowhere", (IndexColumn("a"),))
    assert apply_indexes(engine, [missing, A]) == [
        Outcome(missing.name, "failed", "no such table: main.nowhere"),
        Outcome(A.name, "built"),
    ]


def test_a_locked_database_is_reported(engine, tmp_path):
    writer = sqlite3.connect(tmp_path / "shop.db")
    writer.execute("BEGIN EXCLUSIVE")
    (outcome,) = apply_indexes(engine, [A])
    with pytest.raises(IndexAdviceError, match="database is locked"):
        undo_indexes(engine)
    writer.close()
    assert (outcome.did, outcome.reason) == ("failed", "database is locked")


def test_undo_removes_what_was_built(engine):
    apply_indexes(engine, [A, B])
    assert {outcome.name for outcome in undo_indexes(engine)} == {A.name, B.name}
    assert indexes(engine) == set()


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE INDEX mine ON t (b)",
        "CREATE INDEX upshift_mine ON t (b)",
        "CREATE INDEX upshift_t_b_0123abcd ON t (b)",
        "CREATE INDEX upshift_t_b ON t (abs(b))",
    ],
)
def test_undo_removes_nothing_else(engine, sql):
    run(engine, sql)
    before = indexes(engine)
    apply_indexes(engine, [A])
    assert undo_indexes(engine) == [Outcome(A.name, "removed")]
    assert indexes(engine) == before


def test_an_index_for_another_kind_of_database_is_refused(engine):
    with pytest.raises(IndexAdviceError, match="for postgresql"):
        apply_indexes(engine, [Index("postgresql", "t", (IndexColumn("a"),))])


def test_partial_and_computed_indexes_are_built_and_removed(tmp_path):
    engine = sa.create_engine(f"sqlite:///{tmp_path}/shop.db")
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE t (a TEXT, b INT)")
        connection.exec_driver_sql("CREATE INDEX upshift_like ON t (lower(a))")
    indexes = [
        Index("sqlite", "t", (IndexColumn("b"),), where=(Condition("a", "is not null"),)),
        Index("sqlite", "t", (IndexColumn("a", function="lower"),)),
    ]
    assert [each.did for each in apply_indexes(engine, indexes)] == ["built", "built"]
    assert [each.did for each in apply_indexes(engine, indexes)] == ["kept", "kept"]
    assert {each.name for each in built_indexes(engine)} == {index.name for index in indexes}
    assert {each.did for each in undo_indexes(engine)} == {"removed"}
    with engine.connect() as connection:
        query = "SELECT name FROM sqlite_master WHERE type = 'index'"
        left = connection.exec_driver_sql(query).scalars().all()
    assert left == ["upshift_like"]
