"""`upshift replay`: prints what a recording tells, or sends its SELECTs to a database again."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

import click
import msgspec
from rich.console import Console

from upshift.cli.interruption import interruptible
from upshift.cli.progress import ProgressLine
from upshift.cli.replay_table import show_replayed
from upshift.cli.statement_tables import show_queries
from upshift.diagnose import Report, Severity, diagnose
from upshift.diagnose.formats import FORMATS
from upshift.diagnose.recorded import observe
from upshift.errors import UpshiftError
from upshift.record.recording import Recording
from upshift.sql.analysis.document import TOP, Choice, select
from upshift.sql.analysis.workload import Workload
from upshift.sql.engines import engine_for

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine

    from upshift.diagnose.recorded import Recorded
    from upshift.record import Record
    from upshift.sql.analysis.replay import Replayed

SEVERITIES = {severity.label: severity for severity in Severity}


@click.command()
@click.argument("file", metavar="RECORDING")
@click.option("--database", metavar="URL", help="Send the recorded SELECTs there again, and tell the times.")
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
    file: str, database: str | None, top: int, timeout: float, repeats: int, output: str, fail_on: str
) -> None:
    """Print the findings and statements of a recording, or send its SELECTs to a database again.

    \b
    upshift replay shop.recording
    upshift replay shop.recording --database postgresql://localhost/copy --format json > before.json

    With --database nothing is written there: each SELECT runs in a transaction that is read only, limited in
    time, and rolled back. It needs parameters, which are recorded with `keep_parameters`.
    """  # noqa: D301 - \b is click's mark for lines to leave as they are
    if database is not None and output not in {"table", "json"}:
        raise click.UsageError("--database tells times, as --format table or json")
    recording, workload = Recording(file), Workload()
    engine = None if database is None else _engine(database, recording)
    with ProgressLine() as progress:

        def read(record: Record) -> None:
            workload.add(record)
            if recording.records % 1_000 == 0:
                progress.show(f"{recording.records:,} records read")

        recorded = observe(recording, on_record=read)
        replayed = (
            None
            if engine is None
            else _replayed(engine, recording, workload, progress, timeout, repeats, top)
        )
    if replayed is None:
        _tell(recorded, recording, output, top, fail_on)
    elif output == "json":
        click.echo(msgspec.json.encode({"version": 1, "statements": [asdict(each) for each in replayed]}))
    else:
        show_replayed(replayed, recorded.remarks)


def _engine(database: str, recording: Recording) -> Engine:
    engine = engine_for(database)
    names = {each.name for each in recording.header.dialects}
    if names and engine.dialect.name not in names:
        raise UpshiftError(
            f"{recording.path} is of {' and '.join(sorted(names))},"
            f" and --database leads to {engine.dialect.name}"
        )
    return engine


def _replayed(
    engine: Engine,
    recording: Recording,
    workload: Workload,
    progress: ProgressLine,
    timeout: float,
    repeats: int,
    top: int,
) -> list[Replayed]:
    from upshift.sql.analysis.replay import (
        replay as send_again,
    )  # it needs an extra, which the rest does without

    styles = (each.paramstyle for each in recording.header.dialects if each.name == engine.dialect.name)
    with interruptible():
        return [
            *send_again(
                engine,
                workload.cases()[:top],
                paramstyle=next(styles, None),
                seconds=timeout,
                repeats=repeats,
                on_progress=progress.show,
            )
        ]


def _tell(recorded: Recorded, recording: Recording, output: str, top: int, fail_on: str) -> None:
    findings = diagnose(recorded.observation)
    report = Report(
        findings=findings,
        routes=len({each.operation for each in recorded.observation.records}),
        requests=recording.records,
        notes=recorded.remarks,
    )
    click.echo(FORMATS[output](report), nl=False)
    if output == "table":
        console = Console()
        console.print()
        show_queries(select(recorded.document, Choice(top=top)), (), console)
    if fail_on != "never" and any(each.severity >= SEVERITIES[fail_on] for each in findings):
        sys.exit(1)
