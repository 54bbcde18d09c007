"""`upshift find`: boots an application, drives its GET routes, and prints what makes them slow."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from upshift.application import Upshift
from upshift.cli.advice import advise_on, indexes_of, surplus_on
from upshift.cli.boot import check_databases, find_engines, load_application
from upshift.cli.driving import Threads, driving_of, driving_options, settings_for
from upshift.cli.interruption import interruptible
from upshift.cli.progress import ProgressLine
from upshift.diagnose import Driving, Report, Severity, diagnose, lifespan, survey
from upshift.diagnose.formats import FORMATS
from upshift.errors import UpshiftError
from upshift.sql.maintenance.reading import tables_of
from upshift.sql.plans.explaining import explain_statements

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from sqlalchemy.engine import Engine
    from starlette.types import ASGIApp

    from upshift.diagnose import Observation
    from upshift.diagnose.survey import Survey
    from upshift.settings import Settings
    from upshift.sql import StatementPlans

_NO_ROUTES = "it tells no GET routes; Upshift reads those of FastAPI, of Starlette, and of an OpenAPI schema"

MAX_ROUNDS = 3
"""Times that the routes are driven because the application made an engine on the way, the first included."""

SEVERITIES = {severity.label: severity for severity in Severity}


@click.command()
@driving_options
@click.option(
    "--format", "output", default="table", type=click.Choice(list(FORMATS)), help="How findings are printed."
)
@click.option(
    "--fail-on",
    default="error",
    show_default=True,
    type=click.Choice([*SEVERITIES, "never"]),
    help="Exit with 1 when there is a finding of this severity or worse.",
)
@click.option(
    "--try-on-database",
    is_flag=True,
    help="Try indexes on the tables themselves, in transactions that are rolled back. Writes wait meanwhile.",
)
def find(
    target: str,
    app_dir: str,
    headers: tuple[str, ...],
    values_file: Path | None,
    samples: int,
    timeout: float,
    output: str,
    fail_on: str,
    try_on_database: bool,
) -> None:
    """Boot an application, drive its GET routes, and print what makes them slow."""
    driving = driving_of(headers, values_file, samples, timeout)
    with interruptible(), ProgressLine() as progress:
        app = load_application(target, app_dir)
        check_databases(engines := find_engines())
        observation, driven = asyncio.run(
            _observe(app, engines, settings_for(target), driving, progress.show)
        )
        advice, notes = advise_on(
            observation.statements,
            find_engines(),
            records=observation.records,
            try_on_database=try_on_database,
            on_progress=progress.show,
        )
        surplus, unseen = surplus_on(find_engines())
        plans = _plans(observation, progress.show)
        tables = tables_of(find_engines())
        indexes = indexes_of(find_engines())
    findings = diagnose(
        replace(observation, advice=advice, surplus=surplus, plans=plans, tables=tables, indexes=indexes)
    )
    report = Report(
        findings=findings,
        routes=driven.routes,
        requests=driven.requests,
        skipped=tuple(driven.skipped),
        notes=(*driven.failures, *notes, *unseen),
    )
    click.echo(FORMATS[output](report), nl=False)
    failed = fail_on != "never" and any(each.severity >= SEVERITIES[fail_on] for each in findings)
    if failed:
        sys.exit(1)
    if not driven.routes:
        told = "none answered as it should" if driven.requests or driven.skipped else _NO_ROUTES
        raise UpshiftError(f"{target} was not judged: {told}")


def _plans(observation: Observation, on_progress: Callable[[str], None]) -> tuple[StatementPlans, ...]:
    chosen = observation.settings.sql.explain_slow
    if chosen == "off":
        return ()
    analyze = chosen == "analyze"
    return explain_statements(
        observation.statements, find_engines(), analyze=analyze, on_progress=on_progress
    )


async def _observe(
    app: ASGIApp,
    checked: tuple[Engine, ...],
    settings: Settings,
    driving: Driving,
    on_progress: Callable[[str], None],
) -> tuple[Observation, Survey]:
    asyncio.get_running_loop().set_default_executor(Threads())
    async with lifespan(app):
        for _ in range(MAX_ROUNDS):
            engines = find_engines()
            check_databases(set(engines) - set(checked))
            observed = Upshift(app, engine=engines, settings=settings)
            driven = await survey(app, observed, driving, on_progress=on_progress)
            observation = observed.observation()
            observed.close()
            if set(find_engines()) <= set(engines):
                break
            checked = engines  # the application made an engine on the way: once more, with that one observed
    return observation, driven
