"""What a rule reports: a finding, with its evidence and the way out."""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003 - msgspec reads findings back by their annotations
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from upshift.record import CallSite  # noqa: TC001 - likewise


class Severity(IntEnum):
    """How bad a finding is. Ordered, so that `finding.severity >= Severity.WARNING` reads as it says."""

    INFO = 1
    WARNING = 2
    ERROR = 3

    @property
    def label(self) -> str:
        """The name in lower case, as commands print and accept it."""
        return self.name.lower()


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One cause of slowness, at one place.

    Attributes:
        code: the stable code of the rule (`UP101`); `docs/findings/` has a page for each.
        severity: how bad it is.
        title: what is wrong, in one line.
        site: the application's line; None where a finding belongs to no line.
        also: other lines where the same cause was seen.
        routes: the routes (`GET /orders/{order_id}`) on which it was seen, sorted.
        evidence: what was observed, one fact a line.
        fix: what to write or run, one alternative a line.
        expect: the gain to expect.
        data: the same facts for machines; JSON-compatible.
    """

    code: str
    severity: Severity
    title: str
    site: CallSite | None
    also: tuple[CallSite, ...] = ()
    routes: tuple[str, ...] = ()
    evidence: tuple[str, ...] = ()
    fix: tuple[str, ...]
    expect: str
    data: Mapping[str, Any]
