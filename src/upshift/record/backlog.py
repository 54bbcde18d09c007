"""Closed records on their way to those who count them, some dozens at a time.

Counting one record among the work of a request costs about twice what it costs among other records, because
each time the processor's caches have been filled with something else. So closed records wait for others, and
are counted together: when there are enough of them, when the first has waited `SECONDS`, and whenever
somebody wants to read what was counted.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from threading import Lock
from typing import TYPE_CHECKING

from upshift.record.fork import after_fork

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from upshift.record.model import Record

SIZE = 64
"""Records that wait for each other."""

SECONDS = 0.1
"""How long a record waits at most, in seconds, while the event loop that closed it turns."""

logger = logging.getLogger("upshift.record")


class Backlog:
    """Hands closed records to their takers, in the order in which they were closed.

    Any thread may add and drain. A forked child leaves to its parent what waits. Outside of asyncio, where
    nobody would come back for a record, none waits.
    A fault of a taker is logged once and counted; the others get the record.

    Args:
        takers: called with each record, one after the other, never at the same time.
        after: called afterwards, such as to write what the takers made of them.

    Attributes:
        faults: calls that failed.

    Example:
        >>> taken = []
        >>> backlog = Backlog([taken.append])
        >>> async def close_a_record():
        ...     backlog.add("a record")
        ...     return list(taken)
        >>> asyncio.run(close_a_record())
        []
        >>> backlog.drain()
        >>> taken
        ['a record']
    """

    def __init__(
        self,
        takers: Iterable[Callable[[Record], None]],
        after: Iterable[Callable[[], None]] = (),
    ) -> None:
        self.faults = 0
        self._takers = tuple(takers)
        self._after = tuple(after)
        self._waiting: deque[Record] = deque()
        self._lock = Lock()
        self._timer_of: asyncio.AbstractEventLoop | None = None
        after_fork(self._forget)

    def add(self, record: Record) -> None:
        """Let a record wait, or hand all on when there are enough."""
        waiting = self._waiting
        waiting.append(record)
        if len(waiting) >= SIZE:
            self.hand_on()
        elif (loop := self._timer_of) is None or not loop.is_running():
            self._set_timer()

    def hand_on(self) -> bool:
        """Hand on all that wait, unless that is under way already; return whether it was not."""
        if not self._lock.acquire(blocking=False):
            return False
        try:
            self._hand_on()
        finally:
            self._lock.release()
        return True

    def drain(self) -> None:
        """Hand on all that wait; those added before this call have been taken when it returns."""
        with self._lock:
            self._hand_on()

    def _set_timer(self) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # some other kind of loop; nobody would come back
            self.hand_on()
            return
        self._timer_of = loop
        loop.call_later(SECONDS, self._timer_rings)

    def _timer_rings(self) -> None:
        self._timer_of = None
        if not self.hand_on():
            self._set_timer()  # what came too late for whoever is at it must not wait for the next request

    def _hand_on(self) -> None:
        waiting = self._waiting
        if not waiting:
            return
        for _ in range(len(waiting)):
            record = waiting.popleft()
            for take in self._takers:
                try:
                    take(record)
                except Exception as fault:  # noqa: BLE001 - whatever it is, the host goes on
                    self.note("a record was not counted, its request was not touched", fault)
        for call in self._after:
            try:
                call()
            except Exception as fault:  # noqa: BLE001 - likewise
                self.note("what was made of some records was not written", fault)

    def _forget(self) -> None:
        """In a forked child: what waits is the parent's, and so is who may hold the lock."""
        self._waiting.clear()
        self._lock = Lock()
        self._timer_of = None

    def note(self, what: str, fault: Exception) -> None:
        """Count a fault, and log the first."""
        self.faults += 1
        if self.faults == 1:
            logger.error("%s; later faults are only counted", what, exc_info=fault)
