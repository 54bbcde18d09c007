"""`upshift settings`: prints the settings in force, and where each came from."""

from __future__ import annotations

import gc
import json
import os

import click
from rich.console import Console
from rich.table import Table

from upshift.application import Upshift
from upshift.cli.boot import load_application
from upshift.errors import ApplicationLoadError
from upshift.settings import Explained, Settings, explain_settings, misspelt_variables

PIPE_WIDTH = 200
"""Columns where there is no terminal that has any."""


@click.command()
@click.argument("target", metavar="[MODULE:APP]", required=False)
@click.option("--app-dir", default=".", show_default=True, help="Folder put first on the import path.")
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True)
def settings(target: str | None, app_dir: str, form: str) -> None:
    """Print every setting, its value, and whether an argument, a variable or the default gave it.

    With MODULE:APP, those of the application's own `Upshift`; else those that the variables give.
    """
    in_force = Settings.from_environment() if target is None else _settings_of(target, app_dir)
    explained = explain_settings(in_force, os.environ)
    if form == "json":
        click.echo(json.dumps([each._asdict() for each in explained], indent=1))
    else:
        _print_table(explained)
    for name, near in misspelt_variables(os.environ).items():
        click.echo(f"upshift: {name} is no setting; did you mean {near}?", err=True)


def _settings_of(target: str, app_dir: str) -> Settings:
    before = {id(each) for each in _upshifts()}
    load_application(target, app_dir)
    found = [each for each in _upshifts() if id(each) not in before]
    if not found:
        raise ApplicationLoadError(f"{target} makes no Upshift; without MODULE:APP the variables are shown")
    return found[-1].settings


def _upshifts() -> list[Upshift]:
    return [each for each in gc.get_objects() if type(each) is Upshift]


def _print_table(explained: tuple[Explained, ...]) -> None:
    console = Console()
    if not console.is_terminal:
        console.width = PIPE_WIDTH
    table = Table("setting", "value", "from", "variable", box=None, pad_edge=False)
    for each in explained:
        table.add_row(each.name, each.value, each.source, each.variable)
    console.print(table)
