"""What a demo came to, for the terminal and for the page alike."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import geometric_mean
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from upshift.cli.demo.manifest import Manifest
    from upshift.cli.demo.observer import Counts, Seen
    from upshift.prove import Comparison, ScenarioResult

CPU = "cpu_per_request"
"""The metric that the demo's headline is about."""


class Row(NamedTuple):
    """One endpoint, before and after, as terminal and page show it.

    Attributes:
        name: the endpoint.
        statements: statements a request, before and after.
        rows: rows fetched a request.
        kilobytes: size of the body as sent.
        cpu: CPU time a request, in ms.
        p50: median latency in ms.
        p95: 95th percentile of the latency in ms.
        rate: requests a second.
        ratio: how many times less CPU, with its interval.
        verdict: of the CPU time.
        share: CPU time after, as a share of that before.
    """

    name: str
    statements: str
    rows: str
    kilobytes: str
    cpu: str
    p50: str
    p95: str
    rate: str
    ratio: str
    verdict: str
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """Everything that the demo found, did and measured.

    Attributes:
        manifest: the application.
        database: what it ran on.
        before: what was seen without the fixes.
        after: what was seen with them.
        indexes: the SQL of the indexes that were built.
        comparison: the proof.
        seconds: how long the demo took.
    """

    manifest: Manifest
    database: str
    before: Seen
    after: Seen
    indexes: tuple[str, ...]
    comparison: Comparison
    seconds: float

    def rows(self) -> list[Row]:
        """Return one row an endpoint."""
        return [
            _row(self.before.counts[each.name], self.after.counts[each.name], each)
            for each in self.comparison.scenarios
        ]

    @property
    def speedup(self) -> float:
        """How many times less CPU a request costs: the geometric mean over the endpoints."""
        return 1 / geometric_mean(each.results[CPU].ratio.value for each in self.comparison.scenarios)

    @property
    def counted(self) -> str:
        """Whose CPU time was counted."""
        return "server and database" if self.comparison.design.count_cpu_of else "server only"

    @property
    def control(self) -> str:
        """What comparing the base with itself came to."""
        ratios = [each.results[CPU].control.value for each in self.comparison.scenarios]
        return (
            f"the plain application against itself has a CPU ratio of {min(ratios):.2f} to {max(ratios):.2f}"
        )


def _row(before: Counts, after: Counts, proof: ScenarioResult) -> Row:
    cpu, p50, p95 = (proof.results[key] for key in (CPU, "p50", "p95"))
    rate, ratio = proof.results["requests_per_second"], cpu.ratio
    return Row(
        name=proof.name,
        statements=f"{before.statements:.0f} → {after.statements:.0f}",
        rows=f"{before.rows:.0f} → {after.rows:.0f}",
        kilobytes=_change(before.bytes / 1e3, after.bytes / 1e3),
        cpu=_change(cpu.base * 1e3, cpu.head * 1e3),
        p50=_change(p50.base * 1e3, p50.head * 1e3),
        p95=_change(p95.base * 1e3, p95.head * 1e3),
        rate=_change(rate.base, rate.head),
        ratio=f"{1 / ratio.value:.1f}x [{1 / ratio.high:.1f}, {1 / ratio.low:.1f}]"
        if ratio.low > 0
        else f"{1 / ratio.value:.1f}x",
        verdict=cpu.verdict.value,
        share=min(1.0, cpu.head / cpu.base),
    )


def _change(before: float, after: float) -> str:
    """Two figures, each with about three digits.

    Example:
        >>> _change(402.3, 21.04)
        '402 → 21.0'
    """
    return " → ".join(f"{value:.0f}" if value >= HUNDRED else f"{value:.1f}" for value in (before, after))


HUNDRED = 100


def changed_paths(before: Seen, after: Seen) -> list[str]:
    """Return the paths whose answers differ."""
    return [path for path, body in before.bodies.items() if after.bodies.get(path) != body]
