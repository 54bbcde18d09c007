"""`upshift fetch-plans`: drives an application's GET routes, and prints the eager loads that it learns."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from upshift.application import Upshift
from upshift.cli.boot import check_databases, find_engines, load_application
from upshift.cli.driving import Threads, driving_of, driving_options, settings_for
from upshift.cli.interruption import interruptible
from upshift.cli.progress import ProgressLine
from upshift.diagnose import lifespan, survey
from upshift.diagnose.formats.display import one_line, relative
from upshift.sql.fetch_plans.patch import patch_for
from upshift.sql.loading.claim import claim_names

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy.engine import Engine
    from starlette.types import ASGIApp

    from upshift.diagnose import Driving
    from upshift.diagnose.survey import Survey
    from upshift.settings import Settings
    from upshift.sql import FetchPlan

MAX_ROUNDS = 10
"""How often the routes are driven: in an async session each attempt to read teaches one relationship."""


@click.command()
@driving_options
@click.option(
    "--format", "output", default="table", type=click.Choice(["table", "json"]), help="How plans are printed."
)
@click.option("--as-patch", is_flag=True, help="Print a unified diff against the source instead.")
def fetch_plans(
    target: str,
    app_dir: str,
    headers: tuple[str, ...],
    values_file: Path | None,
    samples: int,
    timeout: float,
    output: str,
    as_patch: bool,
) -> None:
    """Drive an application's GET routes, and print the eager loads that it learns for them."""
    driving = driving_of(headers, values_file, samples, timeout)
    claim_names()  # before the application loads its first objects: see its module
    with interruptible(), ProgressLine() as progress:
        app = load_application(target, app_dir)
        check_databases(engines := find_engines())
        settings = settings_for(target)
        settings = replace(settings, sql=replace(settings.sql, batching=False, fetch_plans="learn"))
        plans, driven = asyncio.run(_learn(app, engines, settings, driving, progress.show))
    if as_patch:
        _print_patch(plans)
    elif output == "json":
        click.echo(msgspec.json.format(msgspec.json.encode([each.as_dict() for each in plans]), indent=2))
    else:
        click.echo("".join(map(_shown, plans)), nl=False)
    told = f"{len(plans) or 'no'} plan{'' if len(plans) == 1 else 's'} in {driven.routes} routes"
    for skipped in driven.skipped:
        click.echo(f"skipped {skipped.route}: {skipped.reason}", err=True)
    for failure in driven.failures:
        click.echo(failure, err=True)
    click.echo(told, err=True)


async def _learn(
    app: ASGIApp,
    checked: tuple[Engine, ...],
    settings: Settings,
    driving: Driving,
    on_progress: Callable[[str], None],
) -> tuple[tuple[FetchPlan, ...], Survey]:
    """Drive the routes until nothing new is learned, and return what was, with the last round."""
    asyncio.get_running_loop().set_default_executor(Threads())
    async with lifespan(app):
        while True:
            engines = find_engines()
            check_databases(set(engines) - set(checked))
            observed = Upshift(app, engine=engines, settings=settings)
            known: object = None
            for _ in range(MAX_ROUNDS):
                driven = await survey(app, observed, driving, on_progress=on_progress)
                plans = observed.fetch_plans
                learned = {(each.operation, each.site, each.options) for each in plans}
                if learned == known:
                    break
                known = learned
            observed.close()
            if set(find_engines()) <= set(engines):
                return plans, driven
            checked = engines  # the application made an engine on the way: once more, with that one observed


def _shown(plan: FetchPlan) -> str:
    site = plan.site
    where = one_line(f"{relative(site.file)}:{site.line} {site.function}")
    code = one_line(f"{plan.root}.options({', '.join(plan.options)})", limit=None)
    uses = ", ".join(f"{each.path} {each.used} of {each.fetched} read" for each in plan.loads)
    return f"{where}  {one_line(plan.operation)}\n    {code}\n    {one_line(uses, limit=None)}\n"


def _print_patch(plans: Sequence[FetchPlan]) -> None:
    """Print the diff on standard output, and what it leaves to the reader on standard error."""
    patch = patch_for(plans, Path.cwd())
    click.echo(patch.diff, nl=False)
    for each in patch.refused:
        where = f"{relative(each.site.file)}:{each.site.line} {each.site.function}"
        options = ", ".join(each.options)
        click.echo(one_line(f"not in the patch: {where}: {each.reason}", limit=None), err=True)
        click.echo(one_line(f"    give the query for {each.root} .options({options})", limit=None), err=True)
