"""The migration as Alembic runs it, up and down."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from sqlalchemy.pool import NullPool

from upshift.sql.indexes.build import apply_indexes
from upshift.sql.indexes.index import Condition, Index, IndexColumn
from upshift.sql.indexes.migration import migration

ENVIRONMENT = """
from alembic import context
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

engine = create_engine(context.config.attributes["url"], poolclass=NullPool)
with engine.connect() as connection:
    context.configure(connection=connection)
    with context.begin_transaction():
        context.run_migrations()
"""

COLUMNS = (IndexColumn("a b"), IndexColumn("c%", descending=True, nulls_first=False))


@pytest.fixture
def config(tmp_path: Path) -> Config:
    (tmp_path / "versions").mkdir()
    (tmp_path / "env.py").write_text(ENVIRONMENT)
    (tmp_path / "script.py.mako").write_text("")
    config = Config()
    config.set_main_option("script_location", str(tmp_path))
    config.set_main_option("path_separator", "os")
    return config


def definitions(engine: sa.Engine) -> dict[str, str]:
    with engine.connect() as connection:
        rows = connection.exec_driver_sql(
            "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'my shop'"
        )
        return {name: definition.partition(" USING ")[2] for name, definition in rows}


def test_on_postgres_it_builds_the_indexes_and_removes_them(config, tmp_path, postgres_database):
    engine = sa.create_engine(postgres_database, poolclass=NullPool)
    with engine.begin() as connection:
        connection.exec_driver_sql('CREATE SCHEMA "my shop"')
        connection.exec_driver_sql('CREATE TABLE "my shop"."it\'s" ("a b" int, "c%%" int, name text)')
    plain = Index("postgresql", "it's", COLUMNS, "my shop")
    pattern = Index(
        "postgresql", "it's", (IndexColumn("name", operator_class="text_pattern_ops"),), "my shop"
    )
    (tmp_path / "versions" / "indexes.py").write_text(migration([plain, pattern]))
    config.attributes["url"] = postgres_database

    command.upgrade(config, "head")
    assert definitions(engine) == {
        plain.name: 'btree ("a b", "c%" DESC NULLS LAST)',
        pattern.name: "btree (name text_pattern_ops)",
    }
    command.downgrade(config, "base")
    assert definitions(engine) == {}


def test_every_kind_of_index_is_built_as_apply_builds_it(config, tmp_path, postgres_database):
    engine = sa.create_engine(postgres_database, poolclass=NullPool)
    with engine.begin() as connection:
        connection.exec_driver_sql('CREATE SCHEMA "my shop"')
        connection.exec_driver_sql(
            'CREATE TABLE "my shop".t (a text, b text, "c%%" int, d jsonb, e timestamp)'
        )
    table = Index("postgresql", "t", (IndexColumn("a"),), "my shop")
    indexes = [
        replace(table, include=("b", "c%"), where=(Condition("b", "=", "it's 5%"), Condition("c%", "=", -1))),
        replace(table, columns=(IndexColumn("a", function="lower", operator_class="text_pattern_ops"),)),
        replace(table, columns=(IndexColumn("e", function="month", descending=True), IndexColumn("c%"))),
        replace(table, columns=(IndexColumn("e", function="date"),), where=(Condition("a", "is null"),)),
        replace(table, columns=(IndexColumn("d", operator_class="jsonb_path_ops"),), method="gin"),
    ]
    (tmp_path / "versions" / "indexes.py").write_text(migration(indexes))
    config.attributes["url"] = postgres_database

    command.upgrade(config, "head")
    migrated = definitions(engine)
    command.downgrade(config, "base")
    assert definitions(engine) == {}
    assert {each.did for each in apply_indexes(engine, indexes)} == {"built"}
    assert definitions(engine) == migrated


def test_on_sqlite_too(config, tmp_path):
    url = f"sqlite:///{tmp_path}/shop.db"
    engine = sa.create_engine(url, poolclass=NullPool)
    with engine.begin() as connection:
        connection.exec_driver_sql('CREATE TABLE t ("a b" INT, "c%" INT)')
    index = Index("sqlite", "t", (IndexColumn("a b"), IndexColumn("c%", descending=True)))
    (tmp_path / "versions" / "indexes.py").write_text(migration([index]))
    config.attributes["url"] = url

    command.upgrade(config, "head")
    assert {each["name"] for each in sa.inspect(engine).get_indexes("t")} == {index.name}
    command.downgrade(config, "base")
    assert sa.inspect(engine).get_indexes("t") == []


def test_it_may_run_where_the_indexes_were_applied_before(config, tmp_path, postgres_database):
    engine = sa.create_engine(postgres_database, poolclass=NullPool)
    index = Index("postgresql", "t", (IndexColumn("a"),))
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("CREATE TABLE t (a int)")
        connection.exec_driver_sql(index.create_sql)
    (tmp_path / "versions" / "indexes.py").write_text(migration([index]))
    config.attributes["url"] = postgres_database
    command.upgrade(config, "head")
