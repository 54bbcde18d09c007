"""`upshift db`: what a database's tables and indexes need, and doing it."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import click
import sqlalchemy as sa

from upshift.cli.progress import ProgressLine
from upshift.diagnose.formats.display import one_line
from upshift.errors import MaintenanceError
from upshift.sql.engines import connected, engine_for
from upshift.sql.maintenance.advice import Work, advised, is_bloated
from upshift.sql.maintenance.sqlite import advised_sqlite, do_sqlite, sql_of, tables_of
from upshift.sql.maintenance.tables import TableHealth, by_name, read_tables
from upshift.sql.maintenance.work import LOCK_SECONDS, STATEMENT_SECONDS, Done, do_postgres, leaves
from upshift.sql.plans.explain import first_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from upshift.sql.maintenance.advice import Verb

READ_SECONDS = 30.0
"""How long reading the statistics may take; measuring bloat with `pgstattuple` is a part of it."""


@click.group(invoke_without_command=True)
@click.option(
    "--url",
    envvar=["UPSHIFT_DATABASE_URL", "DATABASE_URL"],
    help="The database; also from UPSHIFT_DATABASE_URL or DATABASE_URL.",
)
@click.pass_context
def db(context: click.Context, *, url: str | None) -> None:
    """Tell what a database needs. Nothing is done without a command and --yes.

    \b
    upshift db --url postgresql://localhost/shop
    upshift db analyze orders --yes
    upshift db reindex orders_pkey --yes
    """  # noqa: D301 - \b is click's mark for lines to leave as they are
    if url is None:
        raise click.UsageError("--url is missing: which database?")
    context.obj = engine_for(url)
    if context.invoked_subcommand is None:
        _advise(context.obj)


def _doing(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command what all that do something have."""
    options = (
        click.argument("names", metavar="[NAME]…", nargs=-1),
        click.option("--yes", is_flag=True, help="Do it, instead of only telling what would be done."),
        click.option(
            "--timeout",
            default=STATEMENT_SECONDS,
            show_default=True,
            type=click.FloatRange(0.001, 1_000_000),
            help="Seconds that each may take.",
        ),
        click.option(
            "--lock-timeout",
            default=LOCK_SECONDS,
            show_default=True,
            type=click.FloatRange(0.001, 100_000),
            help="Seconds that each may wait for its table.",
        ),
        click.pass_obj,
    )

    for option in reversed(options):
        command = option(command)
    return command


@db.command()
@_doing
def analyze(
    engine: sa.Engine, *, names: tuple[str, ...], yes: bool, timeout: float, lock_timeout: float
) -> None:
    """Have the planner learn what is in tables: those named, or those that need it."""
    _run(engine, _chosen(engine, "analyze", names), yes=yes, timeout=timeout, lock_timeout=lock_timeout)


@db.command()
@_doing
def vacuum(
    engine: sa.Engine, *, names: tuple[str, ...], yes: bool, timeout: float, lock_timeout: float
) -> None:
    """Remove dead rows of tables: of those named, or of those that need it."""
    _run(engine, _chosen(engine, "vacuum", names), yes=yes, timeout=timeout, lock_timeout=lock_timeout)


@db.command()
@click.option(
    "--concurrently/--blocking",
    default=True,
    show_default=True,
    help="Build beside the old index, or in its place while writers wait.",
)
@_doing
def reindex(
    engine: sa.Engine,
    *,
    names: tuple[str, ...],
    yes: bool,
    timeout: float,
    lock_timeout: float,
    concurrently: bool,
) -> None:
    """Build indexes anew: those named, all of tables named, or those that need it."""
    works = [
        replace(work, concurrently=concurrently or work.verb == "drop")
        for work in _chosen(engine, "reindex", names)
    ]
    _run(engine, works, yes=yes, timeout=timeout, lock_timeout=lock_timeout)


def _advise(engine: sa.Engine) -> None:
    if engine.dialect.name == "sqlite":
        _tell(engine, advised_sqlite(engine))
        return
    tables = _read(engine)
    _tell(engine, tuple(advised(tables)))
    for table in filter(is_bloated, tables):
        how = "measured" if table.is_measured else "estimated"
        size = f"{(table.bloat or 0) / 2**20:,.0f} of its {table.size / 2**20:,.0f} MB are lost space ({how})"
        name = one_line(f"{table.schema}.{table.name}")
        click.echo(f"-- {name}: {size}; only a rewrite gives it back: pg_repack, or VACUUM FULL,")
        click.echo("--   which locks everybody out while it runs")


def _tell(engine: sa.Engine, works: Sequence[Work]) -> None:
    for work in works:
        if work.reason:
            click.echo(f"-- {one_line(work.reason)}")
        click.echo(f"{one_line(_sql(engine, work), None)};")
    if not works:
        click.echo("nothing is advised", err=True)


def _sql(engine: sa.Engine, work: Work) -> str:
    return sql_of(work) if engine.dialect.name == "sqlite" else work.sql


def _read(engine: sa.Engine) -> tuple[TableHealth, ...]:
    try:
        with connected(engine) as connection, connection.begin():
            connection.exec_driver_sql(f"SET LOCAL statement_timeout = {READ_SECONDS * 1e3:.0f}")
            return read_tables(connection)
    except sa.exc.DBAPIError as error:
        raise MaintenanceError(f"the statistics cannot be read: {first_line(error)}") from error


def _chosen(engine: sa.Engine, verb: Verb, names: Sequence[str]) -> list[Work]:
    if engine.dialect.name == "sqlite":
        return _chosen_sqlite(engine, verb, names)
    tables = _read(engine)
    verbs = {verb, "drop"} if verb == "reindex" else {verb}
    if not names:
        return [work for work in advised(tables) if work.verb in verbs]
    works = [work for name in names for work in _named(engine, verb, name, tables)]
    return list(dict.fromkeys(works))


def _named(engine: sa.Engine, verb: Verb, name: str, tables: Sequence[TableHealth]) -> Iterator[Work]:
    found = list(by_name(tables, name))
    indexes = [
        (table, index)
        for table in tables
        for index in table.indexes
        if verb == "reindex" and name in {index.name, f"{table.schema}.{index.name}"}
    ]
    if len(found) + len(indexes) > 1:
        raise MaintenanceError(f"{one_line(name)} is in several schemas: name one, as in public.orders")
    for table, index in indexes:
        work = Work(verb=verb, schema=table.schema, table=table.name, index=index.name)
        yield replace(work, may_do=table.may_maintain)
    for table in found:
        work = Work(verb=verb, schema=table.schema, table=table.name, may_do=table.may_maintain)
        if verb == "reindex" and table.kind == "partitioned table":
            with connected(engine) as connection:
                parts = leaves(connection, table.schema, table.name)
            yield from (replace(work, schema=schema, table=part) for schema, part in parts)
        else:
            yield work
    if not found and not indexes:
        raise MaintenanceError(f"there is no table {one_line(name)} here, spelled as the database does")


def _chosen_sqlite(engine: sa.Engine, verb: Verb, names: Sequence[str]) -> list[Work]:
    if not names:
        return [work for work in advised_sqlite(engine) if work.verb == verb]
    if verb == "vacuum":
        raise MaintenanceError("SQLite vacuums whole files: leave the names away")
    known = tables_of(engine)
    for name in names:
        if name not in known:
            raise MaintenanceError(f"there is no table {one_line(name)} here, spelled as the database does")
    return [Work(verb=verb, table=name) for name in names]


def _run(engine: sa.Engine, works: Sequence[Work], *, yes: bool, timeout: float, lock_timeout: float) -> None:
    if not yes or not works:
        _tell(engine, works)
        if works:
            click.echo("nothing was done; --yes does it", err=True)
        return
    do = do_sqlite if engine.dialect.name == "sqlite" else do_postgres
    with ProgressLine() as progress:
        outcomes = do(
            engine,
            works,
            statement_seconds=timeout,
            lock_seconds=lock_timeout,
            on_progress=lambda text: progress.show(one_line(text)),
        )
        failed = _report(engine, outcomes, progress)
    if failed:
        sys.exit(1)


def _report(engine: sa.Engine, outcomes: Iterable[Done], progress: ProgressLine) -> bool:
    failed = False
    for each in outcomes:
        progress.clear()
        reason = f": {one_line(each.reason)}" if each.reason else ""
        click.echo(f"{each.did:<8}{one_line(_sql(engine, each.work), None)}{reason}")
        failed |= each.did == "failed"
    return failed
