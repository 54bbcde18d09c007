"""`upshift cache`: what a cache does and keeps, and the triggers that tell it of what others write."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from upshift.cache.triggers.definition import install_sql, remove_sql
from upshift.cache.triggers.installed import Found, find_tables, install, remove
from upshift.cli.boot import find_engines, load_application
from upshift.cli.cache_application import stats
from upshift.cli.cache_doctor import doctor
from upshift.cli.cache_invalidation import invalidate
from upshift.cli.cache_redis import delete, get, keys
from upshift.errors import SettingsError
from upshift.sql.engines import connected, engine_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from sqlalchemy import Engine


@click.group()
def cache() -> None:
    """Look at a cache, end values, find out what is wrong, and have a database tell of what others write."""


for _command in (stats, doctor, keys, get, delete, invalidate):
    cache.add_command(_command)


def _database(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command what tells its database and the tables that it is about."""
    options = (
        click.argument("target", metavar="[MODULE:APP]", required=False),
        click.option("--app-dir", default=".", show_default=True, help="Where the module is looked for."),
        click.option(
            "--url",
            envvar=["UPSHIFT_DATABASE_URL", "DATABASE_URL"],
            help="The database, where no application is named.",
        ),
        click.option("--table", "names", multiple=True, help="Only tables of this name, or schema.name."),
    )
    for option in reversed(options):
        command = option(command)
    return command


@cache.command("install-triggers")
@_database
@click.option("--dry-run", is_flag=True, help="Print the SQL, and change nothing.")
def install_triggers(
    *, target: str | None, app_dir: str, url: str | None, names: tuple[str, ...], dry_run: bool
) -> None:
    """Put triggers on all tables, or those named, that tell of what is committed. Again after migrations.

    \b
    upshift cache install-triggers shop.main:app
    upshift cache install-triggers --url postgresql://localhost/shop --table orders --dry-run
    """  # noqa: D301 - \b is click's mark for lines to leave as they are
    for engine in _engines(target, app_dir, url):
        tables = [each.table for each in _found(engine, names) if each.state != "installed"]
        if dry_run:
            _print(statement for each in tables for statement in install_sql(each))
        else:
            install(engine, tables)
            click.echo(f"{len(tables)} tables tell of what is written to them now", err=True)


@cache.command("remove-triggers")
@_database
@click.option("--dry-run", is_flag=True, help="Print the SQL, and change nothing.")
def remove_triggers(
    *, target: str | None, app_dir: str, url: str | None, names: tuple[str, ...], dry_run: bool
) -> None:
    """Take the triggers away again."""
    for engine in _engines(target, app_dir, url):
        tables = [each.table for each in _found(engine, names) if each.state != "missing"]
        if dry_run:
            _print(statement for each in tables for statement in remove_sql(each))
        else:
            remove(engine, tables)
            click.echo(f"{len(tables)} tables tell nothing any more", err=True)


@cache.command("list-triggers")
@_database
def list_triggers(*, target: str | None, app_dir: str, url: str | None, names: tuple[str, ...]) -> None:
    """Tell of each table whether its triggers are installed. Fails where one lacks some."""
    found = [each for engine in _engines(target, app_dir, url) for each in _found(engine, names)]
    for each in found:
        click.echo(f"{each.state:9} {each.table.schema}.{each.table.name}")
    if any(each.state != "installed" for each in found):
        sys.exit(1)


def _engines(target: str | None, app_dir: str, url: str | None) -> list[Engine]:
    if target is not None:
        load_application(target, app_dir)
        urls = dict.fromkeys(each.url for each in find_engines() if each.dialect.name == "postgresql")
        if not urls:
            raise SettingsError(f"{target} has no engine of PostgreSQL: give --url")
        return [engine_for(each) for each in urls]
    if url is None:
        raise click.UsageError("which database? Name an application, or give --url")
    engine = engine_for(url)
    if engine.dialect.name != "postgresql":
        raise SettingsError(f"triggers are for PostgreSQL, not for {engine.dialect.name}")
    return [engine]


def _found(engine: Engine, names: tuple[str, ...]) -> list[Found]:
    with connected(engine) as connection:
        found = find_tables(connection)
    if not names:
        return found
    named = [each for each in found if {each.table.name, f"{each.table.schema}.{each.table.name}"} & {*names}]
    known = {name for each in named for name in (each.table.name, f"{each.table.schema}.{each.table.name}")}
    for name in names:
        if name not in known:
            raise SettingsError(f"there is no table {name}")
    return named


def _print(statements: Iterable[str]) -> None:
    for statement in statements:
        click.echo(statement + ";")
