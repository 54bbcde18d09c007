"""The request that a cache is asked for: its record tells of values that were found, and of waits for Redis.

How long hits in memory take it does not tell: to look at the clock would take as long as a tenth of one.
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
