"""The request that a cache is asked for, which is told of it where that costs next to nothing.

A hit in memory takes a microsecond, and to look for the request would be a tenth of that. So what a record
tells of is Redis: the values that were found with a look at it, and how long it was waited for.
"""

from __future__ import annotations

from contextvars import ContextVar
from time import monotonic
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from upshift.record import Record

REQUEST: ContextVar[Record | None] = ContextVar("upshift_cached_for", default=None)
"""The record of the running request; None outside of one, and in the background."""


def note_hit() -> None:
    """Note that a value was found."""
    record = REQUEST.get()
    if record is not None:
        record.cache_hits += 1


def note_wait(began: float) -> None:
    """Note that Redis was waited for since then, by `monotonic`."""
    record = REQUEST.get()
    if record is not None:
        record.cache_seconds += monotonic() - began
