"""What commands share that boot an application and drive its GET routes."""

from __future__ import annotations

import tomllib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from upshift.diagnose import Driving
from upshift.settings import RecordSettings, Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from upshift.diagnose.values import Scalar

MAX_RECORDS = 10_000
"""Requests kept for the rules."""

_OPTIONS = (
    click.argument("target", metavar="MODULE:APP"),
    click.option("--app-dir", default=".", show_default=True, help="Folder put first on the import path."),
    click.option(
        "--header", "headers", multiple=True, metavar="'NAME: VALUE'", help="Sent with every request."
    ),
    click.option(
        "--values",
        "values_file",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="TOML file with lists of values by parameter name: user_id = [1, 2].",
    ),
    click.option(
        "--samples",
        default=5,
        show_default=True,
        type=click.IntRange(1, 50),
        help="Requests to a route with parameters.",
    ),
    click.option(
        "--timeout",
        default=30.0,
        show_default=True,
        type=click.FloatRange(0.1),
        help="Seconds that one answer may take.",
    ),
)


def driving_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the application to drive and the options of how to."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def driving_of(headers: Sequence[str], values_file: Path | None, samples: int, timeout: float) -> Driving:
    """Return how an application is driven, from the options as they were given.

    Raises:
        click.BadParameter: a header is none, or the file with the values is not such a file.
    """
    return Driving(
        headers=dict(_header(each) for each in headers),
        values=_values(values_file),
        samples=samples,
        answer_seconds=timeout,
    )


def settings_for(target: str) -> Settings:
    """Return the settings in which an application is driven: every request is kept in full."""
    settings = Settings.from_environment()
    package = target.partition(".")[0].partition(":")[0]
    return replace(
        settings,
        record=RecordSettings(MAX_RECORDS, 1.0, (*settings.record.packages, package)),
        # In this process's memory only, to plan with; nothing prints or stores them.
        sql=replace(settings.sql, keep_parameters=True, use_sample_rate=1.0),
    )


class Threads(ThreadPoolExecutor):
    """The event loop's threads. It does not wait for them when it closes: one may hang in the application."""

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: ARG002, FBT002 - its signature
        """Leave hanging threads behind."""
        super().shutdown(wait=False, cancel_futures=cancel_futures)


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
