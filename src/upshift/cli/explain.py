"""`upshift explain`: prints what there is to know about a finding's code."""

from __future__ import annotations

import difflib

import click
from rich.console import Console
from rich.markdown import Markdown

from upshift.diagnose.catalogue import CATALOGUE


@click.command()
@click.argument("code", required=False)
def explain(code: str | None) -> None:
    """Print what a finding means, how it is found and how it is fixed. Without CODE, list the codes."""
    if code is None:
        for entry in CATALOGUE.values():
            click.echo(f"{entry.code}  {entry.title}")
        return
    name = code.strip().upper()
    if name not in CATALOGUE:
        raise _unknown(name)
    console = Console()
    page = CATALOGUE[name].page
    if console.is_terminal:
        console.print(Markdown(page, code_theme="ansi_dark"))
    else:
        click.echo(page, nl=False)


def _unknown(name: str) -> click.BadParameter:
    near = difflib.get_close_matches(name, CATALOGUE, cutoff=0.5)
    hint = f"did you mean {' or '.join(sorted(near))}?" if near else f"the codes are {', '.join(CATALOGUE)}"
    return click.BadParameter(f"no finding has the code {name[:40]!r}; {hint}", param_hint="CODE")
