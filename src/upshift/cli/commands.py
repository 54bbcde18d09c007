"""The commands by name, each imported when it is asked for."""

from __future__ import annotations

import sys
from typing import Any

import click

from upshift.cli import INTERRUPTED
from upshift.errors import UpshiftError

_COMMANDS = (
    "demo",
    "find",
    "explain",
    "plan",
    "index",
    "fetch-plans",
    "db",
    "cache",
    "queries",
    "replay",
    "serve",
    "settings",
    "load",
    "prove",
)


class _Group(click.Group):
    """Tells an error of Upshift's in one line, and leaves a traceback to faults."""

    def invoke(self, context: click.Context) -> Any:  # noqa: ANN401 - click's
        try:
            return super().invoke(context)
        except UpshiftError as error:
            click.echo(f"upshift: {error}", err=True)
            sys.exit(2)
        except KeyboardInterrupt:
            click.echo("upshift: interrupted", err=True)
            sys.exit(INTERRUPTED)

    def get_command(self, _context: click.Context, name: str) -> click.Command | None:
        """Import a command when it is asked for, so that none waits for the libraries of another."""
        if name not in _COMMANDS:
            return None
        module_name = name.replace("-", "_")
        module = __import__(f"upshift.cli.{module_name}", fromlist=[module_name])
        command: click.Command = getattr(module, module_name)
        return command

    def list_commands(self, _context: click.Context) -> list[str]:
        """Return the names in the order of the loop: find, fix, prove."""
        return list(_COMMANDS)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="upshift")
def upshift() -> None:
    """Find what makes a Python backend slow, fix it, and prove the fix."""
