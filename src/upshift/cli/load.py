"""`upshift load`: send requests to a URL, and tell how long the answers took."""

from __future__ import annotations

import json
import re
import sys
from typing import TYPE_CHECKING, Any

import click

from upshift.cli import INTERRUPTED
from upshift.cli.progress import ProgressLine

if TYPE_CHECKING:
    from upshift.load import Plan, Progress, Report, Request

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def duration(text: str) -> float:
    """Seconds, written as `30s`, `2m`, `1.5h` or `500ms`; a bare number is seconds."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m|h)?", text)
    if found is None:
        raise click.BadParameter(f"{text!r} is no duration; write it as 30s, 2m or 500ms")
    return float(found[1]) * _SECONDS[found[2] or "s"]


def rate(text: str) -> float:
    """Requests per second, written as `500/s`, `30/m` or `1000/h`; a bare number is per second."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(?:/(s|m|h))?", text)
    if found is None:
        raise click.BadParameter(f"{text!r} is no rate; write it as 500/s or 30/m")
    return float(found[1]) / _SECONDS[found[2] or "s"]


def header(text: str) -> tuple[str, str]:
    """A header's name and value, written as `Name: value`."""
    name, colon, value = text.partition(":")
    if not colon:
        raise click.BadParameter(f"{text!r} is no header; write it as 'Name: value'")
    return name.strip(), value.strip()


@click.command()
@click.argument("url")
@click.option("--rate", type=rate, help="Open model: requests due, such as 500/s or 30/m.")
@click.option("--closed", is_flag=True, help="Closed model: each connection waits for its answer.")
@click.option("--for", "seconds", type=duration, default="10s", show_default=True, help="How long.")
@click.option("--warmup", "warmup_seconds", type=duration, default="0s", help="Before that, not counted.")
@click.option("--connections", type=int, help="At most.  [default: 256; 32 with --closed]")
@click.option("--timeout", type=duration, default="10s", show_default=True, help="Of one request.")
@click.option("--arrivals", type=click.Choice(["uniform", "poisson"]), help="[default: uniform]")
@click.option("--method", help="[default: GET; POST with a body]")
@click.option("--header", "headers", type=header, multiple=True, help="May be repeated.")
@click.option("--body", default="", help="Sent with each request, as UTF-8.")
@click.option("--path", "paths", multiple=True, help="Below the URL's; may be repeated, sent in turn.")
@click.option("--format", "output", type=click.Choice(["table", "json"]), default="table", show_default=True)
def load(url: str, output: str, **options: Any) -> None:  # noqa: ANN401 - click gives each its type
    """Send requests to URL, and tell how long the answers took.

    \b
    upshift load http://localhost:8000 --rate 500/s --for 30s
    upshift load http://localhost:8000 --closed --connections 8 --path /a --path /b

    With --rate, latency counts from the moment a request was due, so a server that stalls cannot hide it.
    Exits with 1 when no request was answered.
    """  # noqa: D301 - \b is click's mark for lines to leave as they are
    from upshift.load import Interrupted, run

    try:
        with ProgressLine() as progress:
            report = run(
                url, _plan(options), _requests(options), watch=lambda now: progress.show(_so_far(now))
            )
    except Interrupted as interrupted:
        _show(interrupted.report, output)
        sys.exit(INTERRUPTED)
    _show(report, output)
    sys.exit(0 if report.completed else 1)


def _plan(options: dict[str, Any]) -> Plan:
    from upshift.load import ClosedPlan, OpenPlan

    if options["closed"] == (options["rate"] is not None):
        raise click.UsageError("say either --rate 500/s (open model) or --closed")
    if options["closed"] and options["arrivals"]:
        raise click.UsageError("--arrivals needs --rate: in the closed model the answers set the pace")
    given = {
        name: options[name]
        for name in ("rate", "seconds", "warmup_seconds", "connections", "timeout", "arrivals")
        if options[name] is not None
    }
    return ClosedPlan(**given) if options["closed"] else OpenPlan(**given)


def _requests(options: dict[str, Any]) -> list[Request]:
    from upshift.load import Request

    method = options["method"] or ("POST" if options["body"] else "GET")
    headers, body = dict(options["headers"]), options["body"].encode()
    return [Request(method.upper(), path, headers, body) for path in options["paths"] or [""]]


def _so_far(progress: Progress) -> str:
    failed = f", {progress.failed:,} failed" if progress.failed else ""
    return f"{progress.seconds:.0f} s: {progress.completed:,} answered{failed}"


def _show(report: Report, output: str) -> None:
    if output == "json":
        click.echo(json.dumps(report.to_dict(), indent=2))
    else:
        from rich.console import Console

        from upshift.load import table

        Console().print(table(report))
