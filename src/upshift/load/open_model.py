"""The open model: requests are sent when they are due, whatever became of those before.

A request that finds no free connection waits in a bounded queue while another connection is opened. Its
latency counts from the moment it was due, so all that a slow server makes others wait is counted: the remedy
for coordinated omission (Gil Tene, "How NOT to Measure Latency", 2013).
"""

from __future__ import annotations

import time
from collections import deque
from itertools import islice
from math import inf
from typing import TYPE_CHECKING

from upshift.load.arrivals import poisson, uniform
from upshift.load.pacer import Pacer
from upshift.load.plan import MAX_REQUESTS, OpenPlan
from upshift.load.session import Session

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from upshift.load.connection import Connection, Job
    from upshift.load.request import Request, Target
    from upshift.load.tally import Failure


class OpenSession(Session):
    """A run of an `OpenPlan`."""

    def __init__(self, target: Target, plan: OpenPlan, requests: Sequence[Request]) -> None:
        super().__init__(target, plan, requests)
        self._backlog = plan.backlog
        self._offsets = _offsets(plan)
        self._due = inf  # when the next request is due; never after the last one
        self._queue: deque[tuple[Job, float]] = deque()
        # A stack: connections that are not needed go unused, and the server closes them.
        self._idle: list[Connection] = []

    def _begin(self) -> None:
        self._pacer = Pacer(self._wake)
        self._schedule_next()
        self._wake()

    def _schedule_next(self) -> None:
        self._due = self._started + next(self._offsets, inf)

    def _wake(self) -> None:
        """Send what is due, and sleep until more is."""
        now = time.monotonic()  # not read again: an endless backlog must let the loop read answers in between
        while self._due <= now:
            self._dispatch(self._due)
            self._schedule_next()
        if self._due < inf:
            self._pacer.wake_at(self._due)
        else:
            self._pacer.close()
            for connection in self._idle:
                connection.close()
            self._end_if_done(now)

    def _dispatch(self, due: float) -> None:
        now = time.monotonic()
        if due >= self._measured_from:
            self._lags.append(now - due)
        job = next(self._jobs)
        if self._idle:
            self._idle.pop().send(job, due)
        elif len(self._queue) < self._backlog:
            self._queue.append((job, due))
            self._open_if_needed()
        else:
            job.tally.failed("backlog", due, now)

    def _open_if_needed(self) -> None:
        under_limit = len(self._connections) + self._opening < self._plan.connections
        if under_limit and self._opening < len(self._queue):
            self._open()

    def ready(self, connection: Connection, now: float) -> None:  # noqa: ARG002 - all was due before
        """Send what has waited longest; without any, keep the connection as long as more comes."""
        if self._queue:
            connection.send(*self._queue.popleft())
        elif self._due < inf:
            self._idle.append(connection)
        else:
            connection.close()

    def _unavailable(self, failure: Failure, since: float, now: float) -> None:  # noqa: ARG002 - as above
        if self._queue:
            job, due = self._queue.popleft()
            job.tally.failed(failure, due, now)
        self._open_if_needed()

    def _lost(self, connection: Connection) -> None:
        if connection in self._idle:
            self._idle.remove(connection)
        self._open_if_needed()

    def _expire(self, now: float) -> None:
        while self._queue and now - self._queue[0][1] >= self._timeout:
            job, due = self._queue.popleft()
            job.tally.failed("timeout", due, now)

    def _exhausted(self, now: float) -> bool:  # noqa: ARG002 - the schedule ends by itself
        return self._due == inf and not self._queue

    async def _close(self) -> None:
        self._pacer.close()
        for job, due in self._queue:
            job.tally.interrupted(due)
        await super()._close()


def _offsets(plan: OpenPlan) -> Iterator[float]:
    seconds = plan.warmup_seconds + plan.seconds
    if plan.arrivals == "uniform":
        return uniform(plan.rate, seconds)
    return islice(poisson(plan.rate, seconds, plan.seed), MAX_REQUESTS)
