"""`upshift index`: build the indexes that `upshift find` advised, and remove them again."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

import click
import msgspec

from upshift.errors import IndexAdviceError
from upshift.sql.engines import engine_for
from upshift.sql.indexes.build import apply_indexes, undo_indexes
from upshift.sql.indexes.index import index_from_dict
from upshift.sql.indexes.migration import migration

if TYPE_CHECKING:
    from collections.abc import Sequence

    from upshift.sql.indexes.build import Outcome
    from upshift.sql.indexes.index import Index

_CODE = "UP201"
_MAX_BYTES = 64 * 2**20


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
    """Build advised indexes, and remove them again."""


@index.command()
@click.option(
    "--from",
    "source",
    type=click.File("rb"),
    help="The findings, as `upshift find --format json` printed them; - for standard input.",
)
@click.option(
    "--url",
    envvar=["UPSHIFT_DATABASE_URL", "DATABASE_URL"],
    help="The database; also from UPSHIFT_DATABASE_URL or DATABASE_URL.",
)
@click.option("--undo", is_flag=True, help="Remove the indexes that Upshift built, and no others.")
@click.option("--dry-run", is_flag=True, help="Print the SQL instead of running it.")
@click.option("--as-migration", is_flag=True, help="Print an Alembic migration instead.")
@click.option("--down-revision", metavar="REVISION", help="The revision that the migration follows.")
def apply(
    *,
    source: BinaryIO | None,
    url: str | None,
    undo: bool,
    dry_run: bool,
    as_migration: bool,
    down_revision: str | None,
) -> None:
    """Build the indexes that `upshift find` advised; on PostgreSQL no writer waits for them."""
    if undo:
        if dry_run or as_migration or source:
            raise click.UsageError("--undo removes what was built: it goes with --url alone")
        outcomes = undo_indexes(engine_for(_required(url)), on_progress=_say, on_outcome=_tell)
        return _end(outcomes, "Upshift built no index here")
    if source is None:
        raise click.UsageError("--from FILE is missing: write it with `upshift find … --format json > FILE`")
    indexes = _read(source)
    if as_migration:
        click.echo(migration(indexes, down_revision) if indexes else "", nl=False)
    elif dry_run:
        click.echo("".join(f"{index.create_sql};\n" for index in indexes), nl=False)
    else:
        engine = engine_for(_required(url))
        outcomes = apply_indexes(engine, indexes, on_progress=_say, on_outcome=_tell)
        return _end(outcomes, "no index is advised")
    if not indexes:
        _say("no index is advised")
    return None


def _required(url: str | None) -> str:
    if url is None:
        raise click.UsageError("--url is missing: which database?")
    return url


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
