"""The demo's findings and tables at a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.table import Table

from upshift.diagnose import Report
from upshift.diagnose.formats import table

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import Console

    from upshift.cli.demo.observer import Seen
    from upshift.cli.demo.result import Result, StoredResult


def show_findings(console: Console, seen: Seen) -> None:
    """Print what was found, with file and line."""
    report = Report(findings=seen.findings, routes=len(seen.counts), requests=len(seen.bodies))
    console.print()
    console.file.write(table(report))
    console.print()


def show_result(console: Console, result: Result) -> None:
    """Print the endpoints before and after, and the proof; everything fits into 80 columns."""
    rows = result.rows()
    console.print(f"\n[bold]{result.manifest.name}[/] on {result.database}, before → after")
    console.print(
        _grid(
            ("endpoint", "statements", "rows", "CPU ms", "less CPU (interval)"),
            ((row.name, row.statements, row.rows, row.cpu, row.ratio) for row in rows),
        )
    )
    console.print(
        _grid(
            ("endpoint", "p50 ms", "p95 ms", "requests/s", "verdict"),
            ((row.name, row.p50, row.p95, row.rate, row.verdict) for row in rows),
        )
    )
    console.print(
        f"A request costs [bold]{result.speedup:.1f}x[/] less CPU ({result.counted}): geometric mean of"
        f" {len(rows)} endpoints, {result.comparison.design.pairs} pairs of fresh processes."
    )
    console.print(f"A/A: {result.control}.\n")
    if result.stored is not None:
        _show_stored(console, result, result.stored)


def _show_stored(console: Console, result: Result, stored: StoredResult) -> None:
    """Print what storing responses adds; everything fits into 80 columns."""
    console.print(f"[bold]With responses stored as well[/], during {stored.writes} writes, fixed → stored")
    rows = result.stored_rows()
    console.print(
        _grid(
            ("endpoint", "CPU ms", "less CPU (interval)", "in all"),
            ((row.name, row.cpu, row.ratio, row.total) for row in rows),
        )
    )
    console.print(
        _grid(
            ("endpoint", "p50 ms", "requests/s", "verdict"),
            ((row.name, row.p50, row.rate, row.verdict) for row in rows),
        )
    )
    agreement = stored.agreement
    console.print(
        f"A request costs [bold]{result.total_speedup:.0f}x[/] less CPU than at the start ({result.counted})."
        f" None of {agreement.compared} answers was stale during {agreement.writes} writes;"
        f" {agreement.hits} were stored ones."
    )
    console.print(f"A/A: {result.stored_control}.\n")


def _grid(headings: Iterable[str], rows: Iterable[Iterable[str]]) -> Table:
    """Return a table whose first column gives way to the others: a name is folded, a figure stays whole."""
    grid = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    for number, heading in enumerate(headings):
        is_name = number == 0
        grid.add_column(heading, justify="left" if is_name else "right", no_wrap=not is_name, overflow="fold")
    for row in rows:
        grid.add_row(*row)
    return grid
