"""`upshift replay`: prints what a recording tells, or sends its SELECTs to a database again."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec
from rich.console import Console

from upshift.cli.interruption import interruptible
from upshift.cli.progress import ProgressLine
from upshift.cli.replay_table import show_replayed
from upshift.cli.statement_tables import show_queries, tell_notes
from upshift.diagnose import Report, Severity, diagnose
from upshift.diagnose.formats import FORMATS
from upshift.diagnose.recorded import observe
from upshift.errors import UpshiftError
from upshift.record.recording import Recording
from upshift.sql.analysis.document import TOP, Choice, select
from upshift.sql.analysis.replayed import ReplayDocument
from upshift.sql.analysis.workload import Workload
from upshift.sql.engines import engine_for

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine

    from upshift.diagnose.recorded import Recorded
    from upshift.record import Record

SEVERITIES = {severity.label: severity for severity in Severity}

MAX_BYTES = 64 * 2**20
"""Bytes of an earlier replay."""


@click.command()
@click.argument("file", metavar="RECORDING")
@click.option("--database", metavar="URL", help="Send the recorded SELECTs there again, and tell the times.")
@click.option(
    "--against",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="An earlier replay, as --format json printed it, to tell the times beside.",
)
@click.option(
    "--top", default=TOP, show_default=True, type=click.IntRange(1, 1_000), help="How many statements."
)
@click.option(
    "--timeout", default=5.0, show_default=True, type=click.FloatRange(0.01), help="Of one execution."
)
@click.option("--repeats", default=3, show_default=True, type=click.IntRange(1, 100), help="Of each, timed.")
@click.option(
    "--format", "output", default="table", type=click.Choice(list(FORMATS)), help="How it is printed."
)
@click.option(
    "--fail-on",
    default="never",
    show_default=True,
    type=click.Choice([*SEVERITIES, "never"]),
    help="Exit with 1 when there is a finding of this severity or worse.",
)
def replay(
    file: str,
    database: str | None,
    against: Path | None,
    top: int,
    timeout: float,
    repeats: int,
    output: str,
    fail_on: str,
) -> None:
    """Print the findings and statements of a recording, or send its SELECTs to a database again.

    \b
    upshift replay shop.recording
    upshift replay shop.recording --database $URL --format json > before.json
    upshift replay shop.recording --database $URL --against before.json

    With --database nothing is written there: each SELECT runs in a transaction that is read only, limited in
    time, and rolled back. It needs parameters, which are recorded with `keep_parameters`.
    """  # noqa: D301 - \b is click's mark for lines to leave as they are
    if database is None:
        if against is not None:
            raise click.UsageError("--against is told beside a replay: it goes with --database")
        recorded = _read(Recording(file), Workload())
        _tell(recorded, output, top, fail_on)
        return
    if output not in {"table", "json"}:
        raise click.UsageError("--database tells times, as --format table or json")
    earlier = None if against is None else _earlier(against)
    recording, workload = Recording(file), Workload()
    engine = _engine(database, recording)
    recorded = _read(recording, workload)
    replayed = _send(engine, recording, workload, top=top, timeout=timeout, repeats=repeats)
    if output == "json":
        click.echo(msgspec.json.encode(replayed))
        tell_notes(recorded.remarks)
    else:
        show_replayed(replayed, earlier, recorded.remarks)


def _read(recording: Recording, workload: Workload) -> Recorded:
    with ProgressLine() as progress:

        def read(record: Record) -> None:
            workload.add(record)
            if recording.records % 1_000 == 0:
                progress.show(f"{recording.records:,} records read")

        return observe(recording, on_record=read)


def _engine(database: str, recording: Recording) -> Engine:
    engine = engine_for(database)
    names = {each.name for each in recording.header.dialects}
    if names and engine.dialect.name not in names:
        raise UpshiftError(
            f"{recording.path} is of {' and '.join(sorted(names))},"
            f" and --database leads to {engine.dialect.name}"
        )
    return engine


def _send(
    engine: Engine, recording: Recording, workload: Workload, *, top: int, timeout: float, repeats: int
) -> ReplayDocument:
    from upshift.sql.analysis.replay import replay as send_again  # it needs an extra; the rest does not

    styles = (each.paramstyle for each in recording.header.dialects if each.name == engine.dialect.name)
    with interruptible(), ProgressLine() as progress:
        return send_again(
            engine,
            workload.cases()[:top],
            paramstyle=next(styles, None),
            seconds=timeout,
            repeats=repeats,
            on_progress=progress.show,
        )


def _earlier(file: Path) -> ReplayDocument:
    with file.open("rb") as opened:
        text = opened.read(MAX_BYTES)
    try:
        return msgspec.json.decode(text, type=ReplayDocument)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UpshiftError(f"{file} is not what `upshift replay --format json` prints: {error}") from error


def _tell(recorded: Recorded, output: str, top: int, fail_on: str) -> None:
    findings = diagnose(recorded.observation)
    report = Report(
        findings=findings,
        routes=len({each.operation for each in recorded.observation.records}),
        requests=len(recorded.observation.records),
        notes=recorded.remarks,
    )
    click.echo(FORMATS[output](report), nl=False)
    if output == "table":
        console = Console()
        console.print()
        show_queries(select(recorded.document, Choice(top=top)), (), console)
    if fail_on != "never" and any(each.severity >= SEVERITIES[fail_on] for each in findings):
        sys.exit(1)
