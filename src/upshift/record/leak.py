"""A connection that was not given back as it should."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from upshift.record.callsite import CallSite

LeakKind = Literal["held", "collected"]
"""`held`: in use for longer than the threshold. `collected`: forgotten, and given back by Python's garbage
collector, whenever that came."""


@dataclass(frozen=True, slots=True)
class Leak:
    """The leaks of one kind from one line.

    Attributes:
        pool: the pool's name.
        kind: how it was not given back.
        site: the application's line that took the connections; None where it is not known.
        count: how many.
        open: how many of them are out now.
        seconds: the longest that one was out, so far.
        routes: routes (`GET /orders/{order_id}`) whose requests took them, sorted; none outside of requests.
    """

    pool: str
    kind: LeakKind
    site: CallSite | None
    count: int
    open: int
    seconds: float
    routes: tuple[str, ...]
