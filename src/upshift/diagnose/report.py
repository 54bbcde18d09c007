"""What one run of the rules came to, as the formats print it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from upshift.diagnose.finding import Finding

MAX_REASONS = 3
"""Reasons for skipping that the summary names, the most frequent."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """A route that could not be judged.

    Attributes:
        route: the route (`GET /orders/{order_id}`).
        reason: why, and what to do about it.
    """

    route: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The findings, and what was looked at to find them.

    Attributes:
        findings: the findings, in the order in which they are printed.
        routes: how many routes were judged.
        requests: how many requests were sent to them.
        skipped: routes that were not judged.
        notes: what else the reader should know, one fact a line.

    Example:
        >>> Report(findings=(), routes=14, requests=9, skipped=(Skipped("GET /me", "needs a login"),)).summary
        'no findings in 14 routes, 1 skipped (needs a login)'
    """

    findings: tuple[Finding, ...]
    routes: int
    requests: int
    skipped: tuple[Skipped, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def summary(self) -> str:
        """The report in one line."""
        line = f"{_count(len(self.findings), 'finding')} in {_count(self.routes, 'route')}"
        if self.skipped:
            line += f", {len(self.skipped)} skipped ({self._reasons()})"
        return line

    def _reasons(self) -> str:
        reasons = Counter(each.reason for each in self.skipped)
        if len(reasons) == 1:
            return self.skipped[0].reason
        named = [f"{count}: {reason}" for reason, count in reasons.most_common(MAX_REASONS)]
        others = len(self.skipped) - sum(count for _, count in reasons.most_common(MAX_REASONS))
        return "; ".join([*named, *([f"{others}: other reasons"] if others else [])])


def _count(number: int, noun: str) -> str:
    return f"{number or 'no'} {noun}{'' if number == 1 else 's'}"
