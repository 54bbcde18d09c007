"""A `Report` for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from upshift.load.report import Counts, Latency, Report

_PERCENTILES = ("p50", "p90", "p95", "p99", "p999", "max")


def table(report: Report) -> Group:
    """Rates and errors in words, latencies in milliseconds as a table, for `rich` to print."""
    lines = [Text(line) for line in _summary(report)]
    if report.errors:
        kinds = ", ".join(f"{kind} {count:,}" for kind, count in report.errors.items())
        lines.append(Text(f"errors    {kinds}", style="red"))
    if report.interrupted:
        lines.append(Text(f"interrupted, {report.unfinished:,} requests unfinished", style="yellow"))
    if report.lagging:
        warning = "void: the generator was late itself; lower the rate, or free a CPU for it"
        lines.append(Text(warning, style="bold red"))
    return Group(*lines, Text(), _latencies(report))


def _summary(report: Report) -> Iterator[str]:
    yield (
        f"{report.model} model at {report.url}, {report.seconds:.1f} s,"
        f" up to {report.connections} connections"
    )
    asked = f" of {report.asked_rate:,.1f}/s asked" if report.asked_rate is not None else ""
    yield f"rate      {report.achieved_rate:,.1f}/s{asked}"
    yield (
        f"requests  {report.requests:,}: {report.completed:,} answered, {report.ok:,} ok,"
        f" {_bytes(report.received_bytes)} received"
    )
    cpu = report.cpu_seconds / report.sent * 1e6 if report.sent else 0.0
    late = f", {report.lag_p99 * 1000:.1f} ms late (p99)" if report.lag_p99 is not None else ""
    yield f"generator {cpu:.0f} µs CPU per request{late}"


def _latencies(report: Report) -> Table:
    grid = Table(
        box=None,
        pad_edge=False,
    )
    grid.add_column("latency, ms", overflow="fold")
    for heading in ("answered", "failed", "mean", "p50", "p90", "p95", "p99", "p99.9", "max"):
        grid.add_column(heading, justify="right", no_wrap=True)
    for name, counts in report.by_request.items():
        grid.add_row(*_row(name, counts))
    if len(report.by_request) > 1:
        grid.add_section()
        grid.add_row(*_row("all", report), style="bold")
    return grid


def _row(name: str, counts: Counts) -> list[str | Text]:
    failed = sum(counts.errors.values())
    return [Text(name), f"{counts.completed:,}", f"{failed:,}", *_milliseconds(counts.latency)]


def _milliseconds(latency: Latency | None) -> list[str]:
    if latency is None:
        return ["-"] * (1 + len(_PERCENTILES))
    values = [latency.mean, *(getattr(latency, name) for name in _PERCENTILES)]
    return [f"{value * 1000:.1f}" for value in values]


def _bytes(count: float) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 1000:  # noqa: PLR2004 - SI prefixes
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"
