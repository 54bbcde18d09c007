"""Brings what is pending to the database: in batches, in order, again until it is there.

At least once
    A write is forgotten when the flush function has returned. If the process is killed between COMMIT and
    that, or if COMMIT's answer is lost, it is flushed again. So the function has to come to the same result
    when it is called twice: it sets values (an upsert), and does not add to them.

When a flush fails
    The next batch is half as large, until what fails is flushed alone; with each batch that succeeds they
    grow again. A database that is away is waited for first, so that it is not asked for each write. A write
    that has failed alone is tried again after longer and longer times, and holds nobody up. It is given up,
    for a dead letter, when it has failed so often and between any two of these times another one succeeded:
    so never because the database is away, nor because of what fails for all.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from concurrent.futures import TimeoutError as StillRunning
from contextvars import Context
from random import uniform
from time import monotonic
from typing import TYPE_CHECKING, Any

from sqlalchemy import exc

if TYPE_CHECKING:
    from collections.abc import Callable

    from upshift.cache.writes.counting import WriteStatistics
    from upshift.cache.writes.limits import Limits
    from upshift.cache.writes.pending import Pending, Waiting
    from upshift.cache.writes.records import Key

FIRST_WAIT = 0.02
"""Seconds to the second try; each further one takes twice as long."""

PATIENCE = 3
"""Times that a batch is tried as it is while the database seems to be away."""

LOOK_SECONDS = 0.5
"""How often it is looked whether the event loop of a flush runs still."""

_AWAY = (exc.OperationalError, exc.InterfaceError, exc.TimeoutError, OSError, StillRunning)


class NoLoopError(OSError):
    """There is no event loop in which a flush could be awaited."""


class Flusher:
    """Flushes, in a thread of its own.

    Args:
        flush: is called with the values by key, in their order; sync or async.
        pending: the writes that wait.
        changed: the lock of `pending`, and the condition that tells of changes of it.
        limits: how they are flushed.
        statistics: counts what happens.
        decode: returns a value from its bytes.
        done: is told of writes that are in the database; the lock is held.
        give_up: is told of a write that never will be; returns whether it may be forgotten.
        ended: is called when the last flush has ended.

    Attributes:
        loop: where an async flush is awaited.
    """

    def __init__(  # noqa: PLR0913 - one call site
        self,
        flush: Callable[[dict[Key, Any]], Any],
        pending: Pending,
        changed: threading.Condition,
        limits: Limits,
        statistics: WriteStatistics,
        *,
        decode: Callable[[bytes], Any],
        done: Callable[[list[Waiting]], None],
        give_up: Callable[[Waiting, Exception], bool],
        ended: Callable[[], None],
    ) -> None:
        self.loop: asyncio.AbstractEventLoop | None = None
        self.is_async = inspect.iscoroutinefunction(flush)
        self._flush = flush
        self._pending = pending
        self._changed = changed
        self._limits = limits
        self._statistics = statistics
        self._decode = decode
        self._done = done
        self._give_up = give_up
        self._ended = ended
        self._size = limits.max_batch
        self._successes = 0
        self._failing = 0  # failures since the last success, without those that split a batch
        self._was_retry = False
        self._not_before = 0.0
        self._draining = 0
        self._is_over = False
        self._thread = threading.Thread(target=self._run, name="upshift-flush", daemon=True)

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def drain(self, seconds: float) -> int:
        """Flush what waits without delay; return how many writes wait still when the time is up."""
        with self._changed:
            self._draining += 1
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._pending.entries, seconds)
            self._draining -= 1
            return len(self._pending.entries)

    def close(self, seconds: float) -> bool:
        """Begin no flush any more; return whether the last one has ended by the time."""
        with self._changed:
            self._is_over = True
            self._changed.notify_all()
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while batch := self._next():
            began = monotonic()
            try:
                # As of nobody: neither within a cached function nor in somebody's transaction.
                Context().run(self._call, {each.key: self._decode(each.data) for each in batch})
            except Exception as error:  # noqa: BLE001 - any of the application's, and of the database's
                self._failed(batch, error)
            else:
                self._succeeded(batch, monotonic() - began)
        self._ended()

    def _next(self) -> list[Waiting]:
        """Wait for a batch that is due, and return it; an empty one when it is over."""
        with self._changed:
            while not self._is_over:
                now = monotonic()
                batch, due = self._batch(now)
                due = max(due, self._not_before)
                if batch and due <= now:
                    self._was_retry = bool(batch[0].failures)
                    for each in batch:
                        each.is_in_flight = True
                    return batch
                self._changed.wait(max(due - now, 0.001))
            return []

    def _batch(self, now: float) -> tuple[list[Waiting], float]:
        """Return the batch that is due; else none, and when there may be one.

        One that has failed is tried again alone, and in turns with those that have not: else it would hold
        them up whenever it is due again by the time that it has failed.
        """
        batch, retry = self._pending.batch(self._size), self._pending.failed(now)
        due = batch[0].since + self._limits.delay if batch else now + self._limits.longest_wait
        is_due = bool(batch) and (self._draining > 0 or len(batch) >= self._size or due <= now)
        if retry is not None and not (is_due and self._was_retry):
            return [retry], now
        if is_due:
            return batch, now
        next_retry = self._pending.next_retry()
        return [], due if next_retry is None else min(due, next_retry)

    def _call(self, values: dict[Key, Any]) -> None:
        if not self.is_async:
            self._flush(values)
            return
        loop = self.loop
        if loop is None or not loop.is_running():
            raise NoLoopError("an async flush needs an event loop that runs: `start` or `put` from within it")
        flushed = asyncio.run_coroutine_threadsafe(self._flush(values), loop)
        while True:
            try:
                flushed.result(LOOK_SECONDS)
            except StillRunning:
                if flushed.done():
                    raise  # it was the flush that timed out
                if loop.is_running():
                    continue
                flushed.cancel()
                raise NoLoopError("the event loop of an async flush has ended") from None
            return

    def _succeeded(self, batch: list[Waiting], seconds: float) -> None:
        self._statistics.flushes.add(seconds)
        self._statistics.flushed += len(batch)
        self._successes += 1
        self._failing = 0
        self._not_before = 0.0
        self._size = min(2 * self._size, self._limits.max_batch)
        with self._changed:
            self._done(batch)

    def _failed(self, batch: list[Waiting], error: Exception) -> None:
        now = monotonic()
        self._statistics.note_failure(error)
        is_away = isinstance(error, _AWAY) or getattr(error, "connection_invalidated", False)
        if is_away or len(batch) == 1:
            self._failing += 1
            self._not_before = now + self._wait(self._failing)
        if len(batch) > 1:
            if not is_away or self._failing > PATIENCE:
                self._size = len(batch) // 2
            with self._changed:
                for each in batch:
                    each.is_in_flight = False
            return
        write = batch[0]
        if write.failures and self._successes > write.successes:
            write.proofs += 1
        write.failures += 1
        write.successes = self._successes
        write.retried = now + self._wait(write.failures)
        is_given_up = write.proofs >= self._limits.attempts and self._give_up(write, error)
        with self._changed:
            write.is_in_flight = False
            if is_given_up:
                self._statistics.given_up += 1
                self._done([write])
            else:
                self._pending.fail(write)

    def _wait(self, times: int) -> float:
        """Return how long to wait after something has failed so many times."""
        longest = min(FIRST_WAIT * 2.0 ** min(times, 30), self._limits.longest_wait)
        return uniform(longest / 2, longest)  # noqa: S311 - no secret
