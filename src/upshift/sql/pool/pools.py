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

from upshift.record.fork import after_fork
from upshift.record.pool import PoolState
from upshift.sql.origin import Origins
from upshift.sql.pool.leaks import Leaks, Loan
from upshift.sql.pool.live import idle, maximum, view
from upshift.sql.wrapping import unwrap, wrap

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from contextvars import ContextVar

    from sqlalchemy.engine import Engine
    from sqlalchemy.engine.interfaces import DBAPIConnection
    from sqlalchemy.pool import ConnectionPoolEntry, Pool, PoolProxiedConnection

    from upshift.record import CallSites, Record
    from upshift.record.leak import Leak
    from upshift.record.pool import Checkout
    from upshift.sql.pool.live import PoolView

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
        call_sites: tells the application's frames from libraries'; without it, nobody learns which line took
            a connection.
        leaks: counts connections that are not given back.
        route_of: tells the route of a request, which may still be open; None where there is none.
        parked: tells how many open connections of a pool are kept from use.

    `close()` puts the pools back as they were. A forked child starts with no connection in use.

    Attributes:
        checkouts: the connections in use, by the pool's entry for each.
        engines: the engines, by the name of their pool.
        faults: times when something could not be observed.
    """

    def __init__(  # noqa: PLR0913 - one call site; each names what it is for
        self,
        engines: Iterable[Engine],
        current: ContextVar[Record | None],
        observer: PoolObserver,
        *,
        call_sites: CallSites | None = None,
        leaks: Leaks | None = None,
        route_of: Callable[[Record], str | None] = lambda record: record.route,
        parked: Callable[[str], int] = lambda _: 0,
    ) -> None:
        self.checkouts: dict[Any, Loan] = {}
        self.is_closed = False
        self.faults = 0
        self._current = current
        self._observer = observer
        self._call_sites = call_sites
        self._leaks = leaks or Leaks(0.0, route_of)
        self._route_of = route_of
        self._parked = parked
        self._waiting: set[Loan] = set()
        self.engines = pool_names(engines)
        self._pools: WeakSet[Pool] = WeakSet()
        for name, engine in self.engines.items():
            self._watch(engine.pool, name)
        after_fork(self._forget)

    def states(self) -> tuple[PoolState, ...]:
        """Return the state of each pool, as it is now."""
        used = Counter(checkout.pool for checkout in list(self.checkouts.values()))
        pending = Counter(checkout.pool for checkout in list(self._waiting))
        return tuple(
            PoolState(
                name,
                used[name],
                idle(engine.pool),
                maximum(engine.pool, self._parked(name)),
                pending[name],
            )
            for name, engine in self.engines.items()
        )

    def population(self, name: str) -> int:
        """How many have a connection of a pool, or wait for one."""
        loans = (*list(self.checkouts.values()), *list(self._waiting))
        return len(loans) if len(self.engines) == 1 else sum(loan.pool == name for loan in loans)

    def views(self) -> tuple[PoolView, ...]:
        """Tell who has the connections of each pool, and who waits."""
        loans = (*list(self.checkouts.values()), *list(self._waiting))
        return tuple(
            view(
                name,
                engine.pool,
                self._parked(name),
                [loan for loan in loans if loan.pool == name],
                self._route_of,
            )
            for name, engine in self.engines.items()
        )

    def leaks(self) -> tuple[Leak, ...]:
        """Tell which connections were not given back as they should, by the line that took them."""
        return self._leaks.all(list(self.checkouts.values()))

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
        site_of = Origins(self._call_sites, 2).of if self._call_sites is not None else None

        def observed_connect() -> PoolProxiedConnection:
            if self.is_closed:
                return connect()
            record = current_record()
            checkout = Loan(name, record, perf_counter())
            checkout.is_leak = False
            checkout.site = site_of(name) if site_of is not None else None
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
            entry = getattr(connection, "_connection_record", None)
            checkout.holder = getattr(entry, "fairy_ref", None)
            checkouts[entry] = checkout
            return connection

        return observed_connect

    def _returning(self, pool: Pool) -> Callable[[ConnectionPoolEntry], None]:
        give_back, checkouts = pool._do_return_conn, self.checkouts
        returned, leaks = self._observer.connection_returned, self._leaks

        def observed_return(entry: ConnectionPoolEntry) -> None:
            # First, as the next one may have the connection before the call is over.
            checkout = checkouts.pop(entry, None)
            if checkout is not None:
                checkout.returned = now = perf_counter()
                holder = checkout.holder
                try:
                    if now - checkout.obtained > leaks.seconds or (holder is not None and holder() is None):
                        leaks.returned(checkout)
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


def pool_names(engines: Iterable[Engine]) -> Mapping[str, Engine]:
    """Name the pools of engines; engines that share one count once.

    A name is the one that the pool was given, or its database's; no two are alike.

    Example:
        >>> from sqlalchemy import create_engine
        >>> list(pool_names([create_engine("sqlite:///srv/shop.db"), create_engine("sqlite://")]))
        ['shop.db', 'sqlite']
    """
    names: dict[str, Engine] = {}
    for engine in engines:
        if all(engine.pool is not each.pool for each in names.values()):
            names[_name(engine, names)] = engine
    return names


def _name(engine: Engine, taken: Iterable[str]) -> str:
    pool_name = getattr(engine.pool, "logging_name", None)
    name = pool_name or PurePath(engine.url.database or "").name or engine.dialect.name
    number = sum(each.partition("#")[0] == name for each in taken)
    return f"{name}#{number + 1}" if number else str(name)
