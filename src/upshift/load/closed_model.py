"""The closed model: each connection sends its next request when the answer to its last one has come."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from upshift.load.plan import MAX_REQUESTS, MAX_SECONDS, ClosedPlan
from upshift.load.session import Session

if TYPE_CHECKING:
    from collections.abc import Sequence

    from upshift.load.connection import Connection, Job
    from upshift.load.request import Request, Target
    from upshift.load.tally import Failure

_RECONNECT_SECONDS = 0.1
"""Pause after a refused connection; a server that is down should not be asked ten thousand times a second."""


class ClosedSession(Session):
    """A run of a `ClosedPlan`."""

    def __init__(self, target: Target, plan: ClosedPlan, requests: Sequence[Request]) -> None:
        super().__init__(target, plan, requests)
        self._left = MAX_REQUESTS if plan.count is None else plan.count
        self._seconds = MAX_SECONDS if plan.seconds is None else plan.seconds
        self._until = 0.0

    def _begin(self) -> None:
        self._until = self._measured_from + self._seconds
        for _ in range(min(self._plan.connections, self._left)):
            self._open()

    def ready(self, connection: Connection, now: float) -> None:
        """Send the next request at once."""
        if self._exhausted(now):
            connection.close()
        else:
            connection.send(self._next(now), now)

    def _next(self, now: float) -> Job:
        if now >= self._measured_from:
            self._left -= 1
        return next(self._jobs)

    def _unavailable(self, failure: Failure, since: float, now: float) -> None:
        if not self._exhausted(since):
            self._next(since).tally.failed(failure, since, now)
        if not self._exhausted(now):
            self._open(after=_RECONNECT_SECONDS)

    def _lost(self, connection: Connection) -> None:  # noqa: ARG002 - one is as good as another
        if not self._exhausted(time.monotonic()):
            self._open()

    def _expire(self, now: float) -> None:
        """Nothing waits here: a request is due when there is a connection for it."""

    def _exhausted(self, now: float) -> bool:
        return self._left <= 0 or now >= self._until
