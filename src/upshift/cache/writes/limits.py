"""What may wait to be flushed, and how it is flushed."""

from __future__ import annotations

from typing import NamedTuple

from upshift.cache.writes.journal import SEGMENT_BYTES
from upshift.errors import SettingsError

CLOSE_SECONDS = 4.0
"""How long closing takes at most: less than the half of `shutdown_seconds` that the lifespan gives a stop."""


class Limits(NamedTuple):
    """Bounds of a write-behind.

    Attributes:
        max_entries: keys that wait to be flushed at most.
        max_bytes: bytes that they take at most, about.
        max_batch: writes that are flushed at once at most.
        delay: seconds that a write waits for others, so that fewer and larger batches are flushed.
        attempts: how often a write that has failed alone fails again, others succeeding between, until it is
            given up.
        longest_wait: seconds between two tries at most.
        segment_bytes: bytes from which on a file of the journal is full.
    """

    max_entries: int = 100_000
    max_bytes: int = 64 * 2**20
    max_batch: int = 500
    delay: float = 0.1
    attempts: int = 5
    longest_wait: float = 5.0
    segment_bytes: int = SEGMENT_BYTES


def checked_limits(limits: Limits) -> Limits:
    """Return limits that can be kept to.

    Raises:
        SettingsError: one of them is not positive.
    """
    for name, value in limits._asdict().items():
        if not value > 0:
            raise SettingsError(f"{name} of a write-behind is {value!r}; it has to be greater than 0")
    return limits
