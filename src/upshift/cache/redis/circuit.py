"""Whether Redis is worth asking, and since when it has been away.

Failures that follow each other open the circuit, so that what comes then does not wait; a failed heartbeat
does where none has passed for the life of a fence. Only the heartbeat, for whose probes no request waits,
closes it.
"""

from __future__ import annotations

from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_FAILURES = 3
"""Failures that open the circuit, each of which began after the one before."""

MARGIN_SECONDS = 0.1
"""What clocks of two machines, and the moments around a measurement, may differ by in a second or two."""


class Circuit:
    """What one process knows of its Redis.

    Args:
        fence_seconds: how long a fence lives without heartbeats.
        closed_seconds: how long nobody may stamp anything under a new fence.
        opened: is told when failures have opened the circuit.
        clock: seconds that never go back.

    Attributes:
        is_open: whether Redis is not asked; it begins like that.
        openings: how often it was opened.
        failures: failures since the last success.
        reason: the last failure, in words.
    """

    def __init__(
        self,
        fence_seconds: float,
        closed_seconds: float,
        opened: Callable[[], None],
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.is_open = True
        self.openings = 0
        self.failures = 0
        self.reason = "nothing has been heard of it yet"
        self._fence_seconds = fence_seconds
        self._closed_seconds = closed_seconds
        self._opened = opened
        self._clock = clock
        self._good_until = 0.0
        self._away_since: float | None = None
        self._last_try = 0.0
        self._last_failure = 0.0
        self._lock = Lock()

    def is_usable(self) -> bool:
        """Whether it may be asked, and what it says may be served."""
        return not self.is_open

    def beaten(self, began: float) -> None:
        """Note that the heartbeat that began then was answered, and nothing is owed any more."""
        with self._lock:
            self._good_until = began + self._fence_seconds
            self.is_open = False
            self.failures = 0
            self._away_since = None

    def succeeded(self) -> None:
        """Note an answer."""
        if self._away_since is not None:
            with self._lock:
                self.failures = 0
                self._away_since = None

    def failed(self, began: float, reason: str) -> None:
        """Note that what was asked then has failed."""
        with self._lock:
            now = self._clock()
            # What was under way together has failed once.
            self.failures += began >= self._last_failure
            self._last_failure = now
            self.reason = reason
            self._last_try = max(self._last_try, began)
            if self._away_since is None:
                self._away_since = now
            if self.is_open or (self.failures < MAX_FAILURES and now < self._good_until):
                return
            self.is_open = True
            self.openings += 1
        self._opened()

    def is_fence_over(self) -> bool:
        """Whether the fence that was there before Redis went away has ended, and none is in use since.

        It has ended a fence's life after Redis went away. A later one cannot be older than the last try that
        failed, and is closed to stamps for a time from its beginning.
        """
        with self._lock:
            now = self._clock()
            return (
                self._away_since is not None
                and now >= self._away_since + self._fence_seconds + MARGIN_SECONDS
                and now < self._last_try + self._closed_seconds - MARGIN_SECONDS
            )
