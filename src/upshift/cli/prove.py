"""`upshift prove`: compare two variants of a server command."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import click

from upshift.cli.progress import ProgressLine

if TYPE_CHECKING:
    from collections.abc import Sequence

    from upshift.prove import Comparison

_SLOWER = 1
_VOID = 2


@click.command()
@click.option("--base", required=True, metavar="COMMAND", help="Starts the server to compare with.")
@click.option("--head", required=True, metavar="COMMAND", help="Starts the server to judge.")
@click.option("--path", "paths", multiple=True, default=["/"], show_default=True, help="May be repeated.")
@click.option("--pairs", type=int, default=20, show_default=True, help="Samples of the head.")
@click.option("--requests", type=int, default=500, show_default=True, help="Per path and sample, at most.")
@click.option("--warmup", type=int, default=50, show_default=True, help="Requests before, not counted.")
@click.option(
    "--budget",
    "budget_seconds",
    type=float,
    default=1.0,
    show_default=True,
    help="Seconds per path and sample: fewer requests are sent where they take longer.",
)
@click.option("--connections", type=int, default=4, show_default=True, help="Kept busy.")
@click.option("--margin", type=float, default=0.02, show_default=True, help="Smallest share worth a verdict.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the random order.")
@click.option("--ready", "ready_path", metavar="PATH", help="Answers below 500 once a server is ready.")
@click.option(
    "--count-cpu-of",
    type=int,
    multiple=True,
    metavar="PID",
    help="Counts as the server's, with its children: a database's postmaster. May be repeated.",
)
@click.option("--fail-on", type=click.Choice(["slower"]), help="Exit with 1 if the head is slower.")
@click.option("--format", "output", type=click.Choice(["table", "json"]), default="table", show_default=True)
def prove(
    base: str,
    head: str,
    paths: Sequence[str],
    fail_on: str | None,
    output: str,
    **design: Any,  # noqa: ANN401 - click gives each its type
) -> None:
    """Measure whether the HEAD command's server is faster than the BASE command's.

    \b
    upshift prove --base "uvicorn old:app --port {port}" --head "uvicorn new:app --port {port}" --path /items

    Both run on a free loopback port that replaces {port}: fresh processes for every sample, in random order,
    with a second run of the base as an A/A check. Each path gets a verdict of its own. Exits with 2 when the
    comparison is void: a server failed, or the machine was too noisy.
    """  # noqa: D301 - \b is click's mark for lines to leave as they are
    from upshift.load import Request
    from upshift.prove import Design, Scenario, Variant, Verdict, compare

    with ProgressLine() as progress:
        comparison = compare(
            Variant.parse("base", base),
            Variant.parse("head", head),
            [Scenario(path, [Request(path=path)]) for path in paths],
            Design(**design),
            on_progress=lambda done, total, what: progress.show(f"{done}/{total} {what}"),
        )
    _show(comparison, output)
    if comparison.verdict is Verdict.VOID:
        sys.exit(_VOID)
    if comparison.verdict == fail_on:
        sys.exit(_SLOWER)


def _show(comparison: Comparison, output: str) -> None:
    if output == "json":
        click.echo(json.dumps(comparison.to_dict(), indent=2))
        return
    from rich.console import Console

    from upshift.prove import table

    Console().print(table(comparison))
