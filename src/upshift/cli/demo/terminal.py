"""The demo's findings and tables at a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

from upshift.cli.demo.result import CPU
from upshift.diagnose import Report
from upshift.diagnose.formats import table

if TYPE_CHECKING:
    from rich.console import Console

    from upshift.cli.demo.observer import Seen
    from upshift.cli.demo.result import Result


def show_findings(console: Console, seen: Seen) -> None:
    """Print what was found, with file and line."""
    report = Report(findings=seen.findings, routes=len(seen.counts), requests=len(seen.bodies))
    console.print()
    console.file.write(table(report))
    console.print()


def show_result(console: Console, result: Result) -> None:
    """Print the endpoints before and after, and the proof."""
    grid = Table(
        title=f"{result.manifest.name} on {result.database}, before → after",
        title_justify="left",
        expand=False,
    )
    grid.add_column("endpoint")
    for heading in ("statements", "rows", "p50 ms", "p95 ms", "CPU ms", "requests/s", "CPU ratio", "verdict"):
        grid.add_column(heading, justify="right", no_wrap=True)
    for row in result.rows():
        results = row.proof.results
        ratio = results[CPU].ratio
        grid.add_row(
            row.name,
            f"{row.before.statements:.0f} → {row.after.statements:.0f}",
            f"{row.before.rows:.0f} → {row.after.rows:.0f}",
            *(
                f"{results[key].base * 1e3:.1f} → {results[key].head * 1e3:.1f}"
                for key in ("p50", "p95", CPU)
            ),
            f"{results['requests_per_second'].base:.0f} → {results['requests_per_second'].head:.0f}",
            f"{1 / ratio.value:.1f}x [{1 / ratio.high:.1f}, {1 / ratio.low:.1f}]",
            results[CPU].verdict.value,
        )
    console.print()
    console.print(grid)
    counted = (
        "server and database processes" if result.comparison.design.count_cpu_of else "server process only"
    )
    console.print(
        f"CPU per request ({counted}) is [bold]{result.speedup():.1f}x[/] less: geometric mean of"
        f" {len(result.rows())} endpoints, {result.comparison.design.pairs} pairs of fresh processes"
    )
    console.print(f"A/A beside it: {_control(result)}")


def _control(result: Result) -> str:
    """What comparing the base with itself came to."""
    ratios = [row.proof.results[CPU].control for row in result.rows()]
    low, high = min(each.value for each in ratios), max(each.value for each in ratios)
    told = f"the base against itself, CPU ratio {low:.2f} to {high:.2f}"
    return f"{told}: {'sound' if result.comparison.verdict.value != 'void' else 'the machine was too noisy'}"
