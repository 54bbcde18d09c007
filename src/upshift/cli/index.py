"""`upshift index`: seek indexes, build them, tell what was built, and take it back."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

import click
import msgspec

from upshift.cli.advice import refused, remarks
from upshift.cli.interruption import interruptible
from upshift.cli.progress import ProgressLine
from upshift.diagnose import Observation, Report
from upshift.diagnose.formats import FORMATS
from upshift.diagnose.recorded import observe
from upshift.diagnose.rules import up201
from upshift.errors import IndexAdviceError
from upshift.record.recording import Recording
from upshift.settings import Settings
from upshift.sql.engines import engine_for
from upshift.sql.indexes.build import apply_indexes, undo_indexes
from upshift.sql.indexes.built import built_indexes
from upshift.sql.indexes.declaration import as_models as models
from upshift.sql.indexes.index import index_from_dict
from upshift.sql.indexes.known import counted_statements
from upshift.sql.indexes.migration import migration
from upshift.sql.indexes.surplus import DAYS, surplus_indexes
from upshift.sql.indexes.workload import observed_workload

if TYPE_CHECKING:
    from collections.abc import Sequence

    from upshift.sql.indexes.advice import How
    from upshift.sql.indexes.build import Outcome
    from upshift.sql.indexes.index import Index

_CODE = "UP201"
_MAX_BYTES = 64 * 2**20
_MEGABYTE = 2**20

_database = click.option(
    "--url",
    envvar=["UPSHIFT_DATABASE_URL", "DATABASE_URL"],
    help="The database; also from UPSHIFT_DATABASE_URL or DATABASE_URL.",
)


@dataclass(frozen=True, slots=True)
class _Finding:
    code: str
    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Findings:
    """What is read of the document that `upshift.diagnose.formats.json_document` describes."""

    version: Literal[1]
    findings: tuple[_Finding, ...]


@click.group()
def index() -> None:
    """Seek indexes that a workload lacks, build them, and remove them again."""


@index.command()
@click.argument("recording", required=False)
@_database
@click.option(
    "--how",
    default="copy",
    show_default=True,
    type=click.Choice(["copy", "transaction", "hypothetical"]),
    help="Try indexes on copies of the tables, on the tables themselves (writers wait), or with HypoPG.",
)
@click.option("--max-copy", default=256, show_default=True, help="Megabytes of a table that are copied.")
@click.option("--max-seconds", default=120.0, show_default=True, help="How long indexes are tried.")
@click.option("--format", "output", default="table", type=click.Choice(list(FORMATS)))
def advise(
    recording: str | None, url: str | None, how: How, max_copy: int, max_seconds: float, output: str
) -> None:
    """Seek indexes for the statements of a RECORDING, or else for those that PostgreSQL has counted itself.

    The database should hold what production holds. No statement is executed on its tables.
    """
    from upshift.sql.indexes.advisor import (
        advise as seek,  # it needs an extra, which other commands do without
    )

    engine = engine_for(_required(url))
    observation, paramstyle = _observed(recording, engine.dialect.name)
    workload = (
        observed_workload(observation.statements, observation.records)
        if recording
        else counted_statements(engine)
    )
    with interruptible(), ProgressLine() as progress:
        found = seek(
            engine,
            workload,
            paramstyle=paramstyle,
            how=how,
            max_copy_bytes=max_copy * _MEGABYTE,
            max_seconds=max_seconds,
            on_progress=progress.show,
        )
    notes = remarks(found)
    notes += refused([{each.sql: each.reason for each in found.skipped if each.kind == "refused"}])
    findings = tuple(up201.find(replace(observation, advice=found.advices)))
    routes = {route for row in observation.statements for route in row.routes}
    report = Report(
        findings=findings, routes=len(routes), requests=len(observation.records), notes=tuple(notes)
    )
    click.echo(FORMATS[output](report), nl=False)


def _observed(recording: str | None, dialect: str) -> tuple[Observation, str | None]:
    """What a recording tells, and the style of placeholders in it; without one, PostgreSQL's own style."""
    if recording is None:
        return Observation(records=(), statements=(), settings=Settings()), "numeric_dollar"
    read = Recording(recording)
    observation = observe(read).observation
    styles = [each.paramstyle for each in read.header.dialects if each.name == dialect]
    return observation, styles[0] if styles else None


@index.command()
@click.option(
    "--from",
    "source",
    type=click.File("rb"),
    help="The findings, as `upshift find --format json` printed them; - for standard input.",
)
@_database
@click.option("--undo", is_flag=True, help="Remove the indexes that Upshift built, and no others.")
@click.option("--dry-run", is_flag=True, help="Print the SQL instead of running it.")
@click.option("--as-migration", is_flag=True, help="Print an Alembic migration instead.")
@click.option("--down-revision", metavar="REVISION", help="The revision that the migration follows.")
@click.option("--as-models", is_flag=True, help="Print Index(…) lines for the models instead.")
def apply(
    *,
    source: BinaryIO | None,
    url: str | None,
    undo: bool,
    dry_run: bool,
    as_migration: bool,
    down_revision: str | None,
    as_models: bool,
) -> None:
    """Build the indexes that were advised; on PostgreSQL no writer waits for them."""
    if undo:
        if dry_run or as_migration or as_models or source:
            raise click.UsageError("--undo removes what was built: it goes with --url alone")
        return _undo(url)
    if source is None:
        raise click.UsageError("--from FILE is missing: write it with `upshift find … --format json > FILE`")
    indexes = _read(source)
    if as_migration:
        click.echo(migration(indexes, down_revision) if indexes else "", nl=False)
    elif as_models:
        click.echo(models(indexes) if indexes else "", nl=False)
    elif dry_run:
        click.echo("".join(f"{index.create_sql};\n" for index in indexes), nl=False)
    else:
        engine = engine_for(_required(url))
        outcomes = apply_indexes(engine, indexes, on_progress=_say, on_outcome=_tell)
        return _end(outcomes, "no index is advised")
    if not indexes:
        _say("no index is advised")
    return None


@index.command()
@_database
def undo(url: str | None) -> None:
    """Remove the indexes that Upshift built, and no others."""
    _undo(url)


@index.command("list")
@_database
def list_(url: str | None) -> None:
    """Tell which indexes Upshift built, what they weigh, and how often they were used."""
    built = built_indexes(engine_for(_required(url)))
    for each in built:
        size = "" if each.size is None else f"{each.size / _MEGABYTE:>10,.1f} MB"
        scans = "" if each.scans is None else f"{each.scans:>12,} scans"
        state = "" if each.is_valid else "  invalid: `upshift index undo` removes it"
        click.echo(f"{each.name:<63} on {each.schema}.{each.table}{size}{scans}{state}")
    if not built:
        _say("Upshift built no index here")


@index.command()
@_database
@click.option("--days", default=DAYS, show_default=True, help="Days of statistics after which one is unused.")
def surplus(url: str | None, days: float) -> None:
    """Tell which indexes could be dropped: invalid ones, duplicates, and those that nothing uses.

    It drops nothing. What one server does not use, a replica may: look there before.
    """
    found = surplus_indexes(engine_for(_required(url)), days=days)
    for each in found:
        click.echo(f"-- {each.kind}: {each.reason}\n{each.drop_sql};")
    if not found:
        _say("no index is in surplus")


def _required(url: str | None) -> str:
    if url is None:
        raise click.UsageError("--url is missing: which database?")
    return url


def _undo(url: str | None) -> None:
    outcomes = undo_indexes(engine_for(_required(url)), on_progress=_say, on_outcome=_tell)
    _end(outcomes, "Upshift built no index here")


def _say(progress: str) -> None:
    click.echo(progress, err=True)


def _tell(outcome: Outcome) -> None:
    click.echo(f"{outcome.did:<8}{outcome.name}" + (f": {outcome.reason}" if outcome.reason else ""))


def _end(outcomes: Sequence[Outcome], nothing: str) -> None:
    if not outcomes:
        _say(nothing)
    if any(outcome.did == "failed" for outcome in outcomes):
        sys.exit(1)


def _read(source: BinaryIO) -> list[Index]:
    """Read the advised indexes from findings; nothing in the file is trusted, and no SQL of it is run."""
    name = getattr(source, "name", "standard input")
    text = source.read(_MAX_BYTES + 1)
    if len(text) > _MAX_BYTES:
        raise IndexAdviceError(f"{name} is larger than findings ever are ({_MAX_BYTES // 2**20} MB)")
    try:
        document = msgspec.json.decode(text, type=_Findings)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise IndexAdviceError(f"{name} is not what `upshift find --format json` prints: {error}") from error
    advised = (index_from_dict(finding.data) for finding in document.findings if finding.code == _CODE)
    return list(dict.fromkeys(advised))
