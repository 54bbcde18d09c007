"""`upshift cache doctor`: finds out what keeps a cache from doing what it could."""

from __future__ import annotations

import sys
from collections import Counter
from typing import TYPE_CHECKING

import click
import msgspec

from upshift.cache.document import Choice
from upshift.cli.cache_application import decoded, told_by
from upshift.cli.cache_checks import application_remarks, trigger_remarks
from upshift.cli.cache_redis import looking
from upshift.diagnose.formats.display import one_line
from upshift.errors import SettingsError
from upshift.sql.engines import engine_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from upshift.cli.cache_remarks import Level, Remark

_COLOURS: dict[Level, str] = {"problem": "red", "warning": "yellow", "ok": "green", "note": "cyan"}


@click.command()
@click.argument("url", required=False)
@click.option(
    "--redis", "where", envvar="UPSHIFT_CACHE_URL", help="The cache's Redis; also UPSHIFT_CACHE_URL."
)
@click.option("--name", default="default", show_default=True, help="The cache's name in Redis.")
@click.option("--database", help="A PostgreSQL whose triggers are looked at.")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
def doctor(url: str | None, *, where: str | None, name: str, database: str | None, form: str) -> None:
    """Look for what is wrong with a cache, and say what to do. Fails where something is.

    URL is the address of an application that runs on this machine. Its Redis is looked at from here.

    \b
    upshift cache doctor http://127.0.0.1:8000
    upshift cache doctor --redis redis://localhost --database postgresql://localhost/shop
    """  # noqa: D301 - \b is click's mark for lines to leave as they are
    if url is None and where is None and database is None:
        raise click.UsageError("what is to be looked at? Name an application, --redis or --database")
    remarks = tuple(_remarks(url, where, name, database))
    if form == "json":
        click.echo(msgspec.json.encode({"version": 1, "remarks": remarks}))
    else:
        _show(remarks)
    if any(each.level in {"problem", "warning"} for each in remarks):
        sys.exit(1)


def _remarks(url: str | None, where: str | None, name: str, database: str | None) -> Iterator[Remark]:
    seconds = None
    if where is not None:
        from upshift.cli.cache_redis_checks import latency_of, redis_remarks

        with looking(where, name) as looker:
            seconds = latency_of(looker)
            yield from redis_remarks(looker)
    if url is not None:
        yield from application_remarks(decoded(told_by(url, Choice(top=10_000, engines=True)), url), seconds)
    if database is not None:
        engine = engine_for(database)
        if engine.dialect.name != "postgresql":
            raise SettingsError(f"triggers are for PostgreSQL, not for {engine.dialect.name}")
        yield from trigger_remarks(engine)


def _show(remarks: tuple[Remark, ...]) -> None:
    for each in remarks:
        mark = click.style(f"{each.level:8}", fg=_COLOURS[each.level])
        click.echo(f"{mark} {one_line(each.about)}: {one_line(each.found, 1_000)}")
        if each.advice and each.level != "ok":
            click.echo(f"{'':8} → {one_line(each.advice, 1_000)}")
    counts = Counter(each.level for each in remarks)
    click.echo(f"{counts['problem']} problems, {counts['warning']} warnings, {counts['note']} notes")
