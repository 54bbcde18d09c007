"""Automatic sizing: measures a pool turn by turn, and has `Climb` tell the limit of the next.

A turn lasts until enough checkouts have ended, and begins when those that were under way at the change are
mostly over. Nothing of it is on a request's way but the counting of one that ends. All times are those of a
monotonic clock.
"""

from __future__ import annotations

import logging
from time import monotonic
from typing import TYPE_CHECKING

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import QueuePool

from upshift.record.fork import after_fork
from upshift.sql.pool.capacity import Capacity
from upshift.sql.pool.climb import FEWEST, Climb, Turn
from upshift.sql.pool.server_limits import read_limits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy.engine import Engine

    from upshift.sql.pool.server_limits import ServerLimits

logger = logging.getLogger("upshift.sql")

SHORTEST, LONG, LONGEST = 0.15, 1.0, 10.0
"""Seconds of a turn: at least, if `ENOUGH` checkouts have ended; if fewer have, but `FEWEST`; at most."""

ENOUGH = 40
SAMPLE = 0.01
"""Seconds between two looks at how many wait or are in use."""

AT_REST = 5
"""Turns at rest are so much longer, and their looks so much rarer."""

SETTLING = 2.0
"""Uses of a connection to wait for after a change; at most half of `SHORTEST` seconds."""

IDLE_PAUSE = 1.0
LIMITS_AGE, FRESH = 10.0, 1.0
"""Seconds after which the server's limits are read anew, and before more connections are opened."""


class AutomaticSizing:
    """Sizes the pool of one engine; nothing happens until its `steps` are taken.

    Args:
        engine: the (sync) engine, whose pool is a `QueuePool`.
        population: tells how many checkouts of it wait or are in use.
        least, most: the bounds of the limit.

    Attributes:
        capacity: the pool's limit.
        climb: the control law.
        server: the server's limits, when they were last read; None where it has none or would not tell.
        resizes: times when another limit was settled upon, up and down.
        faults: times when something of it went wrong.
    """

    def __init__(self, engine: Engine, population: Callable[[], int], *, least: int, most: int) -> None:
        pool = engine.pool
        if not isinstance(pool, QueuePool):
            raise TypeError(f"a {type(pool).__name__} has no size")
        self.capacity = Capacity(pool)
        self.climb = Climb(self.capacity.limit, least=least, most=most)
        self.server: ServerLimits | None = None
        self.resizes = {"up": 0, "down": 0}
        self.faults = 0
        self._engine = engine
        self._population = population
        self._most = most
        self._read_at = -LIMITS_AGE
        self._use = 0.0
        self._told = self.climb.limit
        after_fork(self._forget)

    @property
    def in_loop(self) -> bool:
        """Whether the steps have to be taken in the pool's event loop."""
        return self.capacity.pool._is_asyncio

    def close(self) -> None:
        """Give the pool its own size back."""
        self.capacity.close()

    def steps(self) -> Iterator[float]:
        """Measure and decide for ever; yields the seconds to wait before the next step."""
        away = (SQLAlchemyError, OSError, self._engine.dialect.loaded_dbapi.Error)
        while not self.capacity.is_closed:
            try:
                yield from self._turn()
            except away:  # the database is, which is for others to tell
                self.climb.idle()
                yield IDLE_PAUSE
            except Exception:
                self.climb.idle()
                self.faults += 1
                if self.faults == 1:
                    logger.exception("upshift could not size a connection pool; it stays as it is")
                yield IDLE_PAUSE

    def _turn(self) -> Iterator[float]:
        capacity, climb = self.capacity, self.climb
        if not self._population() and not capacity.returned:
            climb.idle()
            yield IDLE_PAUSE
            return
        self._read_limits(LIMITS_AGE)
        limit = climb.next_limit(monotonic())
        if limit > capacity.open:
            self._read_limits(FRESH)
            limit = climb.next_limit(monotonic())
        self._set(limit)
        yield min(SETTLING * self._use, SHORTEST / 2)
        capacity.returned.clear()
        slowness = AT_REST if climb.is_settled else 1
        started = now = monotonic()
        samples: list[int] = []
        while not self._is_over(now - started, slowness):
            yield SAMPLE * slowness
            now = monotonic()
            samples.append(self._population())
        checkouts = len(capacity.returned)
        turn = Turn(limit, now - started, checkouts, sum(samples) / len(samples), max(samples))
        if checkouts >= FEWEST:
            self._use = limit * turn.seconds / checkouts
        climb.observe(turn, now)
        if climb.is_settled:
            self._set(climb.limit)
            capacity.trim()
        self._tell()

    def _is_over(self, seconds: float, slowness: int) -> bool:
        ended = len(self.capacity.returned)
        if seconds < LONG:
            return seconds >= SHORTEST * slowness and ended >= ENOUGH
        return ended >= FEWEST or seconds >= LONGEST

    def _set(self, limit: int) -> None:
        capacity = self.capacity
        before = capacity.limit
        capacity.set_limit(limit)
        if limit > before:
            capacity.open_ahead(min(limit - before, max(0, self._population() - before)))

    def _read_limits(self, age: float) -> None:
        if monotonic() < self._read_at + age:
            return
        self._read_at = monotonic()
        share = self._most
        try:
            self.server = read_limits(self._engine)
            if self.server is not None:
                share = self.server.share(self.capacity.open)
        except (SQLAlchemyError, OSError):  # it has none left even for the question, or is away
            share = max(self.capacity.open, self.capacity.limit)
        self.climb.most = max(self.climb.least, min(self._most, share))

    def _tell(self) -> None:
        if self.climb.limit != self._told:
            self.resizes["up" if self.climb.limit > self._told else "down"] += 1
            self._told = self.climb.limit

    def _forget(self) -> None:
        self.capacity.forget()
        self.climb.idle()
