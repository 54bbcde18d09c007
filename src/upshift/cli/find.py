"""`upshift find`: boots an application, drives its GET routes, and prints what makes them slow."""

from __future__ import annotations

import asyncio
import sys
import tomllib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from upshift.application import Upshift
from upshift.cli.advice import advise_on, indexes_of, surplus_on
from upshift.cli.boot import check_databases, find_engines, load_application
from upshift.cli.interruption import interruptible
from upshift.cli.progress import ProgressLine
from upshift.diagnose import Driving, Report, Severity, diagnose, lifespan, survey
from upshift.diagnose.formats import FORMATS
from upshift.errors import UpshiftError
from upshift.settings import RecordSettings, Settings
from upshift.sql.maintenance.reading import tables_of
from upshift.sql.plans.explaining import explain_statements

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy.engine import Engine
    from starlette.types import ASGIApp

    from upshift.diagnose import Observation
    from upshift.diagnose.survey import Survey
    from upshift.diagnose.values import Scalar
    from upshift.sql import StatementPlans

MAX_RECORDS = 10_000
"""Requests kept for the rules."""

_NO_ROUTES = "it tells no GET routes; Upshift reads those of FastAPI, of Starlette, and of an OpenAPI schema"

SEVERITIES = {severity.label: severity for severity in Severity}


@click.command()
@click.argument("target", metavar="MODULE:APP")
@click.option("--app-dir", default=".", show_default=True, help="Folder put first on the import path.")
@click.option("--header", "headers", multiple=True, metavar="'NAME: VALUE'", help="Sent with every request.")
@click.option(
    "--values",
    "values_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="TOML file with lists of values by parameter name: user_id = [1, 2].",
)
@click.option(
    "--samples",
    default=5,
    show_default=True,
    type=click.IntRange(1, 50),
    help="Requests to a route with parameters.",
)
@click.option(
    "--timeout",
    default=30.0,
    show_default=True,
    type=click.FloatRange(0.1),
    help="Seconds that one answer may take.",
)
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
    driving = Driving(
        headers=dict(_header(each) for each in headers),
        values=_values(values_file),
        samples=samples,
        answer_seconds=timeout,
    )
    with interruptible(), ProgressLine() as progress:
        app = load_application(target, app_dir)
        check_databases(engines := find_engines())
        observation, driven = asyncio.run(_observe(app, engines, _settings(target), driving, progress.show))
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


def _settings(target: str) -> Settings:
    settings = Settings.from_environment()
    package = target.partition(".")[0].partition(":")[0]
    return replace(
        settings,
        record=RecordSettings(MAX_RECORDS, 1.0, (*settings.record.packages, package)),
        # In this process's memory only, to plan with; nothing prints or stores them.
        sql=replace(settings.sql, keep_parameters=True),
    )


class _Threads(ThreadPoolExecutor):
    """The event loop's threads. It does not wait for them when it closes: one may hang in the application."""

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: ARG002, FBT002 - its signature
        super().shutdown(wait=False, cancel_futures=cancel_futures)


async def _observe(
    app: ASGIApp,
    checked: tuple[Engine, ...],
    settings: Settings,
    driving: Driving,
    on_progress: Callable[[str], None],
) -> tuple[Observation, Survey]:
    asyncio.get_running_loop().set_default_executor(_Threads())
    async with lifespan(app):
        while True:
            engines = find_engines()
            check_databases(set(engines) - set(checked))
            observed = Upshift(app, engine=engines, settings=settings)
            driven = await survey(app, observed, driving, on_progress=on_progress)
            observation = observed.observation()
            observed.close()
            if set(find_engines()) <= set(engines):
                return observation, driven
            checked = engines  # the application made an engine on the way: once more, with that one observed


def _header(text: str) -> tuple[str, str]:
    name, separator, value = text.partition(":")
    if not separator or not name.strip() or "\n" in text or "\r" in text:
        raise click.BadParameter(f"{text!r} is no header; write 'Name: value'", param_hint="--header")
    return name.strip(), value.strip()


def _values(file: Path | None) -> dict[str, Sequence[Scalar]]:
    if file is None:
        return {}
    try:
        values: dict[str, Any] = tomllib.loads(file.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise click.BadParameter(f"{file} is not TOML: {error}", param_hint="--values") from error
    for name, each in values.items():
        if not isinstance(each, list) or not all(isinstance(value, str | int | float) for value in each):
            raise click.BadParameter(f"{name} in {file} must be a list of values", param_hint="--values")
    return values
