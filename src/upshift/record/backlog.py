"""Closed records on their way to those who count them, some dozens at a time.

Counting one record among the work of a request costs about twice what it costs among other records, because
each time the processor's caches have been filled with something else. So closed records wait for others, and
are counted together: when there are enough of them, and whenever somebody wants to read what was counted.
"""

from __future__ import annotations

import logging
from collections import deque
from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from upshift.record.model import Record

SIZE = 64
"""Records that wait for each other."""

logger = logging.getLogger("upshift.record")


class Backlog:
    """Hands closed records to their takers, in the order in which they were closed.

    Any thread may add and drain. A fault of a taker is logged once and counted; the others get the record.

    Args:
        takers: called with each record, one after the other, never at the same time.

    Attributes:
        faults: calls of takers that failed.

    Example:
        >>> taken = []
        >>> backlog = Backlog([taken.append])
        >>> backlog.add("a record")
        >>> taken
        []
        >>> backlog.drain()
        >>> taken
        ['a record']
    """

    def __init__(self, takers: Iterable[Callable[[Record], None]]) -> None:
        self.faults = 0
        self._takers = tuple(takers)
        self._waiting: deque[Record] = deque()
        self._lock = Lock()

    def add(self, record: Record) -> None:
        """Let a record wait, or hand all on when there are enough."""
        waiting = self._waiting
        waiting.append(record)
        if len(waiting) >= SIZE and self._lock.acquire(blocking=False):  # else they are on their way already
            try:
                self._hand_on()
            finally:
                self._lock.release()

    def drain(self) -> None:
        """Hand on all that wait; those added before this call have been taken when it returns."""
        with self._lock:
            self._hand_on()

    def _hand_on(self) -> None:
        waiting = self._waiting
        for _ in range(len(waiting)):
            record = waiting.popleft()
            for take in self._takers:
                try:
                    take(record)
                except Exception:
                    self.faults += 1
                    if self.faults == 1:
                        logger.exception(
                            "a record was not counted, its request was not touched; "
                            "later faults are only counted"
                        )
