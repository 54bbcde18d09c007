"""`upshift queries`: prints what the statements of an application cost, and what changed of them."""

from __future__ import annotations

import click
import msgspec

from upshift.cli.statement_tables import show_comparison, show_queries, tell_notes
from upshift.cli.statements_of import ALL, statements_of
from upshift.sql.analysis.comparison import compare_documents
from upshift.sql.analysis.document import SORTS, TOP, Choice, encode


@click.command()
@click.argument("targets", metavar="TARGET [LATER]", nargs=-1, required=True)
@click.option("--top", default=TOP, show_default=True, type=click.IntRange(1, 100_000), help="How many.")
@click.option("--sort", default="total", show_default=True, type=click.Choice(list(SORTS)), help="By what.")
@click.option("--route", default="", metavar="'GET /orders'", help="Only those that this route sends.")
@click.option("--compare", is_flag=True, help="What changed: from TARGET to LATER, or within TARGET.")
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True)
def queries(targets: tuple[str, ...], top: int, sort: str, route: str, compare: bool, form: str) -> None:
    """Print what the statements of an application cost.

    TARGET is the address of an application that runs on this machine (http://127.0.0.1:8000), a recording, or
    what --format json printed before.

    \b
    upshift queries http://127.0.0.1:8000 --sort p95
    upshift queries --compare http://127.0.0.1:8000
    upshift queries --compare monday.recording tuesday.recording
    """  # noqa: D301 - \b is click's mark for lines to leave as they are
    if len(targets) > 1 + compare:
        raise click.UsageError("one TARGET, or with --compare two of them")
    if compare:
        _compare(targets, form)
        return
    choice = msgspec.convert({"top": top, "sort": sort, "route": route}, Choice)
    told = statements_of(targets[0], choice)
    if form == "json":
        click.echo(encode(told.document))
        tell_notes(told.notes)
    else:
        show_queries(told.document, told.notes)


def _compare(targets: tuple[str, ...], form: str) -> None:
    told = [statements_of(target, ALL) for target in targets]
    comparison = compare_documents(*(each.document for each in told))
    notes = [note for each in told for note in each.notes]
    if form == "json":
        click.echo(msgspec.json.encode(comparison))
        tell_notes(notes)
    else:
        show_comparison(comparison, notes)
