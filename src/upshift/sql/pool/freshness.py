"""Hands out connections that work: old ones are replaced before the server ends them, doubtful ones asked.

SQLAlchemy's `pre_ping` asks at each checkout, a round trip for every request. Here a connection is asked only
when it has idled for longer than `ping_idle_seconds`, or when another one of its pool was found broken since
it was last used: then all are doubtful, once. `pool_recycle` replaces all connections of a start at one time;
here each has a lifetime of its own, up to a fifth shorter, so they are replaced one by one.

It is done where a connection is taken, `Pool._do_get`, before SQLAlchemy looks at it: an entry whose
connection is closed is connected anew by `get_connection`, which `tests/contract` pins. All times are those
of a monotonic clock.
"""

from __future__ import annotations

import logging
import math
import random
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakSet

from sqlalchemy.exc import SQLAlchemyError

from upshift.sql.pool.server_limits import read_limits
from upshift.sql.wrapping import unwrap, wrap

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from sqlalchemy.engine import Engine
    from sqlalchemy.pool import ConnectionPoolEntry, Pool

logger = logging.getLogger("upshift.sql")

JITTER = 0.2
"""Share of a lifetime by which one may be shorter."""

BEFORE = 0.8
"""Share of the server's idle timeout after which a connection is not trusted any more."""

LIMITS_AGE = 3_600.0
"""Seconds after which the server's timeouts are read anew."""

_WRAPPED = ("_do_get", "_do_return_conn", "recreate")


class FreshnessCounts(NamedTuple):
    """What was done to the connections of a pool.

    Attributes:
        pings: how many were asked.
        failed_pings: how many of those did not answer, and were replaced.
        recycled: how many were replaced for their age, or before the server would end them.
    """

    pings: int = 0
    failed_pings: int = 0
    recycled: int = 0


class Freshness:
    """Keeps the connections of engines fresh.

    Args:
        engines: the (sync) engines, by the name of their pool.
        ping_idle_seconds: how long a connection may idle without being asked; 0 for never asking.
        lifetime_seconds: how old a connection may become; 0 for as old as the server lets it.

    `close()` puts the pools back as they were.

    Attributes:
        counts: what was done, by pool.
        faults: times when something of it went wrong.
    """

    def __init__(
        self, engines: Mapping[str, Engine], *, ping_idle_seconds: float, lifetime_seconds: float
    ) -> None:
        self.is_closed = False
        self.faults = 0
        self.counts = dict.fromkeys(engines, FreshnessCounts())
        self._engines = engines
        self._ping_idle_seconds = ping_idle_seconds
        self._lifetime_seconds = lifetime_seconds
        self._server_idle_seconds: dict[str, float] = {}
        self._doubtful_before = dict.fromkeys(engines, 0.0)
        self._pools: WeakSet[Pool] = WeakSet()
        self._keys = (f"upshift-idle-{id(self)}", f"upshift-end-{id(self)}")
        for name, engine in engines.items():
            self._watch(engine.pool, name)

    def close(self) -> None:
        """Take the wrappers out again. Calling it twice does nothing more."""
        self.is_closed = True
        for pool in tuple(self._pools):
            for name in _WRAPPED:
                unwrap(pool, name)

    def steps(self, name: str) -> Iterator[float]:
        """Read the timeouts of one engine's server now and then; see `upshift.sql.pool.upkeep`."""
        while not self.is_closed:
            try:
                limits = read_limits(self._engines[name])
            except (SQLAlchemyError, OSError):  # it is away, or does not tell: the lifetime is what there is
                limits = None
            if limits is not None and limits.idle_seconds is not None:
                self._server_idle_seconds[name] = limits.idle_seconds * BEFORE
            yield LIMITS_AGE

    def _watch(self, pool: Pool, name: str) -> None:
        wrap(pool, "_do_get", self._getting(pool, name), self)
        wrap(pool, "_do_return_conn", self._returning(pool), self)
        wrap(pool, "recreate", self._recreating(pool, name), self)
        self._pools.add(pool)

    def _getting(self, pool: Pool, name: str) -> Callable[[], ConnectionPoolEntry]:
        get = pool._do_get

        def get_fresh() -> ConnectionPoolEntry:
            entry = get()
            if not self.is_closed:
                try:
                    self._freshen(pool, name, entry)
                except Exception:
                    self.faults += 1
                    if self.faults == 1:
                        logger.exception("upshift could not check a connection; it is used as it is")
                except BaseException:  # cancelled while asking: nobody else knows of the entry
                    entry.invalidate()
                    pool._do_return_conn(entry)
                    raise
            return entry

        return get_fresh

    def _returning(self, pool: Pool) -> Callable[[ConnectionPoolEntry], None]:
        give_back = pool._do_return_conn
        idle_since, _ = self._keys

        def note_return(entry: ConnectionPoolEntry) -> None:
            entry.info[idle_since] = monotonic()
            give_back(entry)

        return note_return

    def _recreating(self, pool: Pool, name: str) -> Callable[[], Pool]:
        recreate = pool.recreate

        def recreate_alike() -> Pool:
            new = recreate()
            if not self.is_closed:
                self._watch(new, name)
            return new

        return recreate_alike

    def _freshen(self, pool: Pool, name: str, entry: ConnectionPoolEntry) -> None:
        connection = entry.dbapi_connection
        if connection is None:
            return
        now = monotonic()
        idle_since, end = self._keys
        since = entry.info.get(idle_since, now)  # SQLAlchemy clears it with each new connection
        if now >= self._end_of(entry, end, now) or now - since >= self._server_idle_seconds.get(
            name, math.inf
        ):
            self._count(name, recycled=1)
            entry.close()
        elif self._ping_idle_seconds and (
            now - since >= self._ping_idle_seconds or since < self._doubtful_before[name]
        ):
            entry.info[idle_since] = now
            self._count(name, pings=1)
            if not _answers(pool, connection):
                self._doubtful_before[name] = now
                self._count(name, failed_pings=1)
                entry.invalidate()

    def _end_of(self, entry: ConnectionPoolEntry, key: str, now: float) -> float:
        """When a connection is to be replaced, drawn when it is first taken from among those that idle."""
        if not self._lifetime_seconds:
            return math.inf
        end = entry.info.get(key)
        if end is None:
            end = entry.info[key] = now + self._lifetime_seconds * random.uniform(1 - JITTER, 1)  # noqa: S311 - no secret
        return float(end)

    def _count(self, name: str, *, pings: int = 0, failed_pings: int = 0, recycled: int = 0) -> None:
        done = self.counts[name]
        self.counts[name] = FreshnessCounts(
            done.pings + pings, done.failed_pings + failed_pings, done.recycled + recycled
        )


def _answers(pool: Pool, connection: object) -> bool:
    """Whether the server is still at the other end; whatever keeps it from answering means no."""
    try:
        return bool(pool._dialect._do_ping_w_event(connection))  # type: ignore[arg-type]
    except Exception:  # noqa: BLE001 - a connection that cannot be asked cannot be used either
        return False
