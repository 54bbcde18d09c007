"""`upshift cache … -triggers` on a real database."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from click.testing import CliRunner, Result
from sqlalchemy.pool import NullPool

from upshift.cli.commands import upshift


def command(*arguments: str) -> Result:
    return CliRunner().invoke(upshift, ["cache", *arguments], env={"DATABASE_URL": None})


@pytest.fixture
def url(postgres_database):
    engine = sa.create_engine(postgres_database, poolclass=NullPool)
    with engine.begin() as connection:
        connection.exec_driver_sql('CREATE TABLE product (id int PRIMARY KEY); CREATE TABLE "Odd" (x int)')
        connection.exec_driver_sql("CREATE SCHEMA depot; CREATE TABLE depot.stock (id int PRIMARY KEY)")
    return engine.url.render_as_string(hide_password=False)


def test_triggers_are_installed_listed_and_removed(url):
    listed = command("list-triggers", "--url", url)
    assert listed.exit_code == 1
    assert listed.output.splitlines() == [
        "missing   depot.stock", "missing   public.Odd", "missing   public.product",
    ]  # fmt: skip

    assert command("install-triggers", "--url", url).exit_code == 0
    listed = command("list-triggers", "--url", url)
    assert (listed.exit_code, listed.output.count("installed")) == (0, 3)
    assert "0 tables" in command("install-triggers", "--url", url).output

    assert command("remove-triggers", "--url", url, "--table", "depot.stock").exit_code == 0
    assert "missing   depot.stock" in command("list-triggers", "--url", url).output


def test_a_dry_run_prints_what_does_the_same(url):
    printed = command("install-triggers", "--url", url, "--dry-run")
    assert printed.exit_code == 0
    assert "missing" in command("list-triggers", "--url", url).output

    engine = sa.create_engine(url, poolclass=NullPool)
    with engine.begin() as connection:
        connection.execution_options(no_parameters=True).exec_driver_sql(printed.output)

    assert command("list-triggers", "--url", url).exit_code == 0
    removing = command("remove-triggers", "--url", url, "--dry-run", "--table", "product").output
    assert (removing.count("DROP TRIGGER"), removing.count("DROP FUNCTION")) == (4, 1)
    assert command("list-triggers", "--url", url).exit_code == 0


def test_the_databases_may_be_those_of_an_application(url, tmp_path, monkeypatch):
    (tmp_path / "shop_of_triggers.py").write_text(
        "from fastapi import FastAPI\n"
        "from sqlalchemy.ext.asyncio import create_async_engine\n"
        f"engine = create_async_engine({url!r}.replace('psycopg', 'asyncpg'))\n"
        "app = FastAPI()\n"
    )
    monkeypatch.setattr("upshift.cli.cache.find_engines", lambda: [sa.create_engine(url)])

    result = command("install-triggers", "shop_of_triggers:app", "--app-dir", str(tmp_path))

    assert result.exit_code == 0, result.output
    assert command("list-triggers", "--url", url).exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "which database?"),
        (("--url", "sqlite:///shop.db"), "triggers are for PostgreSQL"),
        (("--url", "no url"), "cannot be read"),
        (("nothing.here:app",), "did not import"),
    ],
)
def test_what_cannot_be_done_is_told(arguments, message):
    result = command("install-triggers", *arguments)

    assert result.exit_code == 2
    assert message in result.output


def test_a_table_that_is_not_there_is_told(url):
    result = command("install-triggers", "--url", url, "--table", "nothing")

    assert result.exit_code == 2
    assert "there is no table nothing" in result.output
