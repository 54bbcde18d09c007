"""What a demo came to, for the terminal and for the page alike."""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, log
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from upshift.cli.demo.manifest import Manifest
    from upshift.cli.demo.observer import Counts, Seen
    from upshift.prove import Comparison, ScenarioResult

CPU = "cpu_per_request"
"""The metric that the demo's headline is about."""


class Row(NamedTuple):
    """One endpoint, before and after."""

    name: str
    before: Counts
    after: Counts
    proof: ScenarioResult


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
        proofs = {proof.name: proof for proof in self.comparison.scenarios}
        return [
            Row(each.name, self.before.counts[each.name], self.after.counts[each.name], proofs[each.name])
            for each in self.manifest.endpoint
        ]

    def speedup(self) -> float:
        """Return how many times less CPU a request costs: the geometric mean over the endpoints."""
        logs = [-log(row.proof.results[CPU].ratio.value) for row in self.rows()]
        return exp(sum(logs) / len(logs))


def changed_paths(before: Seen, after: Seen) -> list[str]:
    """Return the paths whose answers differ."""
    return [path for path, body in before.bodies.items() if after.bodies.get(path) != body]
