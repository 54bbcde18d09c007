"""Observes connection pools: who waits for a connection, how long each is held, how many there are.

Three calls of each pool are wrapped on the pool's *instance*. SQLAlchemy's pool events would do, at several
times the price: a listener for checkouts makes each one take the slow path, and none tells of waiting.

`engine.dispose()` asks its pool for a new one to put in its place (`Pool.recreate`); that call is wrapped
too, so observation goes on. `tests/contract` pins these calls for each SQLAlchemy version.
"""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import PurePath
from time import perf_counter
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakSet

from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.pool import QueuePool

from upshift.record.fork import after_fork
from upshift.record.pool import Checkout, PoolState
from upshift.sql.wrapping import unwrap, wrap

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from contextvars import ContextVar

    from sqlalchemy.engine import Engine
    from sqlalchemy.engine.interfaces import DBAPIConnection
    from sqlalchemy.pool import ConnectionPoolEntry, Pool, PoolProxiedConnection

    from upshift.record import Record

logger = logging.getLogger("upshift.sql")

_WRAPPED = ("connect", "_do_return_conn", "_invoke_creator", "recreate")


class PoolObserver(Protocol):
    """Who is told what happens at pools; it is called on the way of whoever uses a connection."""

    def connection_returned(self, checkout: Checkout) -> None:
        """A connection was given back."""

    def connection_created(self, pool: str, seconds: float) -> None:
        """A connection to the database was opened, in so many seconds."""

    def connection_timed_out(self, pool: str) -> None:
        """No connection came free within the pool's timeout."""


class Pools:
    """Observes the pools of engines.

    Args:
        engines: the (sync) engines to observe; engines that share a pool count as one.
        current: where the record of the running request is found; its `pool_wait_seconds` are counted.
        observer: is told what happens.

    `close()` puts the pools back as they were. A forked child starts with no connection in use.

    Attributes:
        checkouts: the connections in use, by the pool's entry for each.
        faults: times when something could not be observed.
    """

    def __init__(
        self, engines: Iterable[Engine], current: ContextVar[Record | None], observer: PoolObserver
    ) -> None:
        self.checkouts: dict[Any, Checkout] = {}
        self.is_closed = False
        self.faults = 0
        self._current = current
        self._observer = observer
        self._waiting: set[Checkout] = set()
        self._engines: dict[str, Engine] = {}
        self._pools: WeakSet[Pool] = WeakSet()
        for engine in engines:
            if all(engine.pool is not each.pool for each in self._engines.values()):
                name = _name(engine, self._engines)
                self._engines[name] = engine
                self._watch(engine.pool, name)
        after_fork(self._forget)

    def states(self) -> tuple[PoolState, ...]:
        """Return the state of each pool, as it is now."""
        used = Counter(checkout.pool for checkout in list(self.checkouts.values()))
        pending = Counter(checkout.pool for checkout in list(self._waiting))
        return tuple(
            PoolState(name, used[name], _idle(engine.pool), _maximum(engine.pool), pending[name])
            for name, engine in self._engines.items()
        )

    def close(self) -> None:
        """Take the wrappers out again. Calling it twice does nothing more."""
        self.is_closed = True
        for pool in tuple(self._pools):
            for name in _WRAPPED:
                unwrap(pool, name)
        self._forget()

    def _watch(self, pool: Pool, name: str) -> None:
        wrap(pool, "connect", self._connecting(pool, name), self)
        wrap(pool, "_do_return_conn", self._returning(pool), self)
        wrap(pool, "_invoke_creator", self._creating(pool, name), self)
        wrap(pool, "recreate", self._recreating(pool, name), self)
        self._pools.add(pool)

    def _connecting(self, pool: Pool, name: str) -> Callable[[], PoolProxiedConnection]:
        connect, current_record = pool.connect, self._current.get
        waiting, checkouts = self._waiting, self.checkouts

        def observed_connect() -> PoolProxiedConnection:
            if self.is_closed:
                return connect()
            record = current_record()
            checkout = Checkout(name, record, perf_counter())
            waiting.add(checkout)
            try:
                connection = connect()
            except PoolTimeoutError:
                self._tell(self._observer.connection_timed_out, name)
                raise
            finally:
                checkout.obtained = now = perf_counter()
                waiting.discard(checkout)
                if record is not None:
                    record.pool_wait_seconds += now - checkout.asked
            checkouts[getattr(connection, "_connection_record", None)] = checkout
            return connection

        return observed_connect

    def _returning(self, pool: Pool) -> Callable[[ConnectionPoolEntry], None]:
        give_back, checkouts = pool._do_return_conn, self.checkouts
        returned = self._observer.connection_returned

        def observed_return(entry: ConnectionPoolEntry) -> None:
            # First, as the next one may have the connection before the call is over.
            checkout = checkouts.pop(entry, None)
            if checkout is not None:
                checkout.returned = perf_counter()
                try:
                    returned(checkout)
                except Exception as fault:  # noqa: BLE001 - whatever it is, the host goes on
                    self._note(fault)
            give_back(entry)

        return observed_return

    def _creating(self, pool: Pool, name: str) -> Callable[[ConnectionPoolEntry], DBAPIConnection]:
        create = pool._invoke_creator

        def observed_create(entry: ConnectionPoolEntry) -> DBAPIConnection:
            started = perf_counter()
            connection = create(entry)
            if not self.is_closed:
                self._tell(self._observer.connection_created, name, perf_counter() - started)
            return connection

        return observed_create

    def _recreating(self, pool: Pool, name: str) -> Callable[[], Pool]:
        recreate = pool.recreate

        def observed_recreate() -> Pool:
            new = recreate()
            if not self.is_closed:
                self._watch(new, name)
            return new

        return observed_recreate

    def _tell(self, observe: Callable[..., None], *what: object) -> None:
        try:
            observe(*what)
        except Exception as fault:  # noqa: BLE001 - whatever it is, the host goes on
            self._note(fault)

    def _note(self, fault: Exception) -> None:
        self.faults += 1
        if self.faults == 1:
            logger.error("upshift could not observe a connection pool; it goes on without", exc_info=fault)

    def _forget(self) -> None:
        self.checkouts.clear()
        self._waiting.clear()


def _name(engine: Engine, taken: Iterable[str]) -> str:
    """A name that tells which pool it is: the one it was given, or its database's; never two alike."""
    pool_name = getattr(engine.pool, "logging_name", None)
    name = pool_name or PurePath(engine.url.database or "").name or engine.dialect.name
    number = sum(each.partition("#")[0] == name for each in taken)
    return f"{name}#{number + 1}" if number else str(name)


def _idle(pool: Pool) -> int | None:
    return pool.checkedin() if isinstance(pool, QueuePool) else None


def _maximum(pool: Pool) -> int | None:
    if not isinstance(pool, QueuePool) or pool._max_overflow < 0:
        return None
    return pool.size() + pool._max_overflow
