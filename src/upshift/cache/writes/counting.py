"""What a write-behind did."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

from upshift.record.histogram import Histogram

logger = logging.getLogger("upshift.cache")


@dataclass(slots=True)
class WriteStatistics:
    """Counts of one write-behind in this process since the start.

    Attributes:
        puts: writes that were acknowledged.
        coalesced: those of them that took the place of one of the same key that had not been flushed.
        refused: writes that the disk refused.
        full: times when a write had to wait for room.
        replayed: writes that were taken over from processes that had ended without flushing them.
        torn_bytes: bytes at the ends of their journals that were no whole record, and never acknowledged.
        flushed: writes that were flushed.
        failures: calls of the flush function that raised.
        given_up: writes that are dead letters now.
        faults: what failed beside that, such as a file that could not be removed.
        entries: keys that wait to be flushed now.
        bytes: what they take, about.
        journal_bytes: what the files of this process's journal take.
        oldest_seconds: for how long the first of them has waited; 0 where none does.
        flushes: the durations of flushes that succeeded; it goes on counting.
        commits: the durations of group commits; it goes on counting.
    """

    puts: int = 0
    coalesced: int = 0
    refused: int = 0
    full: int = 0
    replayed: int = 0
    torn_bytes: int = 0
    flushed: int = 0
    failures: int = 0
    given_up: int = 0
    faults: int = 0
    entries: int = 0
    bytes: int = 0
    journal_bytes: int = 0
    oldest_seconds: float = 0.0
    flushes: Histogram = field(default_factory=Histogram)
    commits: Histogram = field(default_factory=Histogram)

    def note_failure(self, error: Exception) -> None:
        """Count a flush that failed; the first one is logged."""
        self.failures += 1
        if self.failures == 1:
            logger.warning("a flush failed, and is tried again; more are only counted", exc_info=error)

    def note_fault(self, what: str, error: BaseException) -> None:
        """Count what failed; the first one is logged."""
        self.faults += 1
        if self.faults == 1:
            logger.error("%s; later faults are only counted", what, exc_info=error)
