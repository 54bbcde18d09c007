"""What a demo came to, for the terminal and for the page alike."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import geometric_mean
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from upshift.cli.demo.agreement import Agreement
    from upshift.cli.demo.manifest import Manifest
    from upshift.cli.demo.observer import Counts, Seen
    from upshift.prove import Comparison, Ratio, ScenarioResult

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


class StoredRow(NamedTuple):
    """One endpoint with the other fixes, and with its responses stored as well.

    Attributes:
        name: the endpoint.
        cpu: CPU time a request, in ms.
        p50: median latency in ms.
        rate: requests a second.
        ratio: how many times less CPU than with the other fixes, with its interval.
        verdict: of that.
        total: how many times less than at the start.
    """

    name: str
    cpu: str
    p50: str
    rate: str
    ratio: str
    verdict: str
    total: str


class StoredResult(NamedTuple):
    """What storing responses came to.

    Attributes:
        agreement: stored answers beside those of the application.
        comparison: the proof, of the other fixes against these and stored responses.
        writes: changes committed while it was taken.
    """

    agreement: Agreement
    comparison: Comparison
    writes: int


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
        stored: what storing responses adds; None where that was not asked for.
        seconds: how long the demo took.
    """

    manifest: Manifest
    database: str
    before: Seen
    after: Seen
    indexes: tuple[str, ...]
    comparison: Comparison
    stored: StoredResult | None = None
    seconds: float

    def rows(self) -> list[Row]:
        """Return one row an endpoint."""
        return [
            _row(self.before.counts[each.name], self.after.counts[each.name], each)
            for each in self.comparison.scenarios
        ]

    def stored_rows(self) -> list[StoredRow]:
        """Return one row an endpoint of what storing responses adds."""
        if self.stored is None:
            return []
        proofs = zip(self.comparison.scenarios, self.stored.comparison.scenarios, strict=True)
        return [_stored_row(first, second) for first, second in proofs]

    @property
    def speedup(self) -> float:
        """How many times less CPU a request costs: the geometric mean over the endpoints."""
        return _speedup(self.comparison)

    @property
    def total_speedup(self) -> float:
        """How many times less it costs than at the start with responses stored as well."""
        return self.speedup * (1.0 if self.stored is None else _speedup(self.stored.comparison))

    @property
    def counted(self) -> str:
        """Whose CPU time was counted."""
        return "server and database" if self.comparison.design.count_cpu_of else "server only"

    @property
    def control(self) -> str:
        """What comparing the base with itself came to."""
        return f"the plain application against itself has a CPU ratio of {_control(self.comparison)}"

    @property
    def stored_control(self) -> str:
        """What comparing the application with the other fixes with itself came to."""
        assert self.stored is not None
        return f"with the other fixes against itself, {_control(self.stored.comparison)}"


def _speedup(comparison: Comparison) -> float:
    return 1 / geometric_mean(each.results[CPU].ratio.value for each in comparison.scenarios)


def _control(comparison: Comparison) -> str:
    ratios = [each.results[CPU].control.value for each in comparison.scenarios]
    return f"{min(ratios):.2f} to {max(ratios):.2f}"


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
        ratio=_times_less(ratio),
        verdict=cpu.verdict.value,
        share=min(1.0, cpu.head / cpu.base),
    )


def _stored_row(first: ScenarioResult, second: ScenarioResult) -> StoredRow:
    cpu, p50, rate = (second.results[key] for key in (CPU, "p50", "requests_per_second"))
    return StoredRow(
        name=second.name,
        cpu=_change(cpu.base * 1e3, cpu.head * 1e3),
        p50=_change(p50.base * 1e3, p50.head * 1e3),
        rate=_change(rate.base, rate.head),
        ratio=_times_less(cpu.ratio),
        verdict=cpu.verdict.value,
        total=f"{1 / (first.results[CPU].ratio.value * cpu.ratio.value):.0f}x",
    )


def _times_less(ratio: Ratio) -> str:
    if ratio.low <= 0:
        return f"{1 / ratio.value:.1f}x"
    return f"{1 / ratio.value:.1f}x [{1 / ratio.high:.1f}, {1 / ratio.low:.1f}]"


def _change(before: float, after: float) -> str:
    """Two figures, each with about three digits.

    Example:
        >>> _change(402.3, 21.04)
        '402 → 21.0'
    """
    return " → ".join(_figure(value) for value in (before, after))


def _figure(value: float) -> str:
    if value >= HUNDRED:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 1 else f"{value:.2f}"


HUNDRED = 100


def changed_paths(before: Seen, after: Seen) -> list[str]:
    """Return the paths whose answers differ."""
    return [path for path, body in before.bodies.items() if after.bodies.get(path) != body]
