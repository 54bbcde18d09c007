"""`Replicas`: a primary and its replicas, watched, and the sessions that read from them."""

from __future__ import annotations

import logging
import random
import threading
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
from sqlalchemy import Engine
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.util import greenlet_spawn

from upshift.errors import SettingsError
from upshift.record.fork import after_fork
from upshift.sql.replicas.probe import History, ask_functions, ask_identity, ask_primary, ask_replica
from upshift.sql.replicas.prober import Prober
from upshift.sql.replicas.reading import Reading
from upshift.sql.replicas.replica import Replica
from upshift.sql.replicas.session import RoutingSession, routing_session
from upshift.sql.replicas.visit import Visit

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sqlalchemy.engine import Connection

    from upshift.record.replica import ReplicaState
    from upshift.sql.replicas.carriers import Carrier
    from upshift.sql.replicas.position import Position

logger = logging.getLogger("upshift.sql")

LOOK_SECONDS = 0.1
"""Between two looks for replicas that do not answer."""

_OVERSLEPT = 3
"""A look that comes so many times too late accuses nobody: it was this process that did not run."""


class Replicas:
    """A primary and its replicas.

    Args:
        primary: the primary's engine, sync or async.
        replicas: the engines of its streaming replicas, of the same kind.
        longest_lag_seconds: a replica that is further behind is not read from.
        probe_seconds: between two questions to each server.
        carrier: carries what a client wrote to its next request, in the place of a signed token; such as
            `upshift.sql.RedisCarrier`.
        timeout_seconds: a replica that has not answered after so long is not read from, and whoever waits for
            it then is let go.

    Servers are watched from the first use on, by one thread for each; a forked child starts anew. A process
    asks each server one small question in `probe_seconds`.

    Attributes:
        engine: the primary's (sync) engine.
        carrier: what was given.
        session_class: for `sessionmaker(class_=…)` and `async_sessionmaker(sync_session_class=…)`.
        is_closed: whether it was closed; its sessions then read from the primary.
        faults: positions that could not be had for a client, which was sent to the primary then.
        late_writes: requests that wrote after their response had begun, of which the client does not know.

    Raises:
        SettingsError: an engine is not PostgreSQL's, there are sync and async ones, one is given twice or
            none at all.

    Example:
        >>> from sqlalchemy import create_engine
        >>> from sqlalchemy.orm import sessionmaker
        >>> primary = create_engine("postgresql+psycopg://db-1/shop")
        >>> replicas = Replicas(primary, [create_engine("postgresql+psycopg://db-2/shop")])
        >>> new_session = sessionmaker(class_=replicas.session_class)
        >>> [(state.name, state.is_fit) for state in replicas.states()]
        [('db-2', False)]
        >>> replicas.close()
    """

    def __init__(  # noqa: PLR0913 - all but two by name, with defaults
        self,
        primary: Engine | AsyncEngine,
        replicas: Sequence[Engine | AsyncEngine],
        *,
        longest_lag_seconds: float = 10.0,
        probe_seconds: float = 0.5,
        timeout_seconds: float = 1.0,
        carrier: Carrier | None = None,
    ) -> None:
        self.engine, *others = _checked(primary, replicas)
        self.longest_lag_seconds = longest_lag_seconds
        self.is_closed = False
        self.carrier = carrier
        self.faults = 0
        self.late_writes = 0
        self.reading = Reading()
        self.session_class: type[RoutingSession] = routing_session(self)
        self._probe_seconds = probe_seconds
        self._timeout_seconds = timeout_seconds
        self._visit: ContextVar[Visit | None] = ContextVar("upshift_visit", default=None)
        self._asked_for_primary: ContextVar[bool] = ContextVar("upshift_on_primary", default=False)
        self._replicas = tuple(
            Replica(engine, name, partial(self._wake, number))
            for number, (engine, name) in enumerate(zip(others, _names(others), strict=True))
        )
        self._identity = ""
        self._inherited: list[Prober] = []
        self._forget()
        after_fork(self._forget)

    @property
    def isolation_level(self) -> str | None:
        """That of the primary's transactions; None before it was connected to."""
        dialect = self.engine.dialect
        chosen = (
            self.engine.get_execution_options().get("isolation_level") or dialect._on_connect_isolation_level
        )
        return chosen or getattr(dialect, "default_isolation_level", None)

    @property
    def catch_up_seconds(self) -> float:
        """After so long, every replica that is read from has what the primary has committed now."""
        return self.longest_lag_seconds + self._probe_seconds + self._timeout_seconds

    @property
    def engines(self) -> tuple[Engine, ...]:
        """The (sync) engines, the primary's first."""
        return (self.engine, *(replica.engine for replica in self._replicas))

    @property
    def visit_now(self) -> Visit | None:
        """The visit that this task or thread belongs to."""
        return self._visit.get()

    @property
    def is_primary_asked_for(self) -> bool:
        """Whether this is inside of a `primary()` block."""
        return self._asked_for_primary.get()

    def states(self) -> tuple[ReplicaState, ...]:
        """Return what is known of each replica now."""
        return tuple(replica.state for replica in self._replicas)

    @contextmanager
    def primary(self) -> Iterator[None]:
        """Read from the primary in this task or thread, for the length of a `with` block."""
        token = self._asked_for_primary.set(True)
        try:
            yield
        finally:
            self._asked_for_primary.reset(token)

    @contextmanager
    def visit(self, after: Position | None = None, *, reads_replicas: bool = True) -> Iterator[Visit]:
        """Take all sessions inside of a `with` block for those of one visit, such as a job.

        Args:
            after: what must be seen, as by `position()` after it was written; None for nothing in particular.
            reads_replicas: False sends all of it to the primary.
        """
        visit = Visit(after, reads_replicas=reads_replicas)
        token = self._visit.set(visit)
        try:
            yield visit
        finally:
            self._visit.reset(token)

    def position(self) -> Position:
        """Ask the primary for its position: all that was committed before is before it.

        Raises:
            sqlalchemy.exc.DBAPIError: it does not answer.
        """
        with self.engine.connect() as connection:
            return ask_primary(connection.execution_options(isolation_level="AUTOCOMMIT"))

    async def position_async(self) -> Position:
        """As `position()`, from an event loop."""
        if self.engine.dialect.is_async:
            return await greenlet_spawn(self.position)
        return await anyio.to_thread.run_sync(self.position, abandon_on_cancel=True)

    def choose(self, visit: Visit, without: Sequence[Replica] = ()) -> Replica | None:
        """Return the replica that a visit should read from; None where it has to be the primary."""
        if not self._probers:
            self._watch()
        held = visit.replica
        if held is not None:
            if held not in without and held.fits(visit.after):
                return held
            if visit.has_read:
                return None
        fit = [each for each in self._replicas if each.fits(visit.after) and each not in without]
        if not fit:
            if visit.after is not None:
                self._wake_those_behind()
            return None
        if len(fit) > 1:
            fit = random.sample(fit, 2)
            fit.sort(key=lambda replica: replica.cost)
        visit.replica = fit[0]
        return fit[0]

    def close(self) -> None:
        """Watch no more, and take out what was put into the engines. Calling it twice does nothing more."""
        self.is_closed = True
        self._stop.set()
        for prober in self._probers:
            prober.stop()
        for replica in self._replicas:
            replica.close()

    def _forget(self) -> None:
        # A child must not end the connections that it shares with its parent, so it keeps them.
        self._inherited.extend(getattr(self, "_probers", ()))
        for replica in self._replicas:
            replica.forget()
        self._probers: tuple[Prober, ...] = ()
        self._history = History(self.longest_lag_seconds)
        self._lock = threading.Lock()
        self._stop = threading.Event()

    def _watch(self) -> None:
        with self._lock:
            if self._probers or self.is_closed:
                return
            primary = Prober(self.engine, self._ask_primary, self._primary_failed, self._probe_seconds)
            probers = [
                Prober(
                    replica.engine,
                    partial(self._ask_replica, replica),
                    partial(self._failed, replica),
                    self._probe_seconds,
                )
                for replica in self._replicas
            ]
            for replica, prober in zip(self._replicas, probers, strict=True):
                replica.may_always_connect = prober.thread
            self._probers = (primary, *probers)
            for prober in self._probers:
                prober.thread.start()
            threading.Thread(target=self._look_after, name="upshift-replicas", daemon=True).start()

    def _look_after(self) -> None:
        """Let go whoever waits for a replica that does not answer."""
        stop, looked = self._stop, monotonic()
        while not stop.wait(LOOK_SECONDS):
            now = monotonic()
            is_late, looked = now - looked > _OVERSLEPT * LOOK_SECONDS, now
            if is_late:
                continue
            for replica, prober in zip(self._replicas, self._probers[1:], strict=True):
                if prober.is_overdue(self._timeout_seconds):
                    replica.put_out("it does not answer", is_hanging=True)
                    replica.sockets.cut()

    def _wake(self, number: int) -> None:
        if self._probers:
            self._probers[number + 1].wake()

    def _wake_those_behind(self) -> None:
        for number, replica in enumerate(self._replicas):
            if replica.reason is None:
                self._wake(number)

    def _ask_primary(self, connection: Connection, is_new: bool) -> None:  # noqa: FBT001 - the prober's
        if is_new:
            self._identity = ask_identity(connection)
        position = ask_primary(connection)
        self._history.add(position, monotonic())

    def _primary_failed(self, error: Exception) -> None:
        logger.debug("the primary could not be asked for its position: %s", error)

    def _ask_replica(self, replica: Replica, connection: Connection, is_new: bool) -> None:  # noqa: FBT001 - likewise
        asked = monotonic()
        if is_new:
            identity = ask_identity(connection)
            if self._identity and identity != self._identity:
                replica.put_out("it replicates another cluster")
                return
            self.reading.learn(ask_functions(connection))
            asked = monotonic()
        position, own_lag = ask_replica(connection)
        now = monotonic()
        replica.latency.tell(now - asked, now)
        if position is None:
            replica.put_out("it is no replica (any more)")
            return
        # While the primary cannot be asked, the replica's own word has to do.
        lag = self._history.lag_of(position) if self._history else own_lag
        if lag is None or lag > self.longest_lag_seconds:
            behind = "" if lag is None else f" {lag:.1f} s"
            replica.put_out(f"it is{behind} behind the primary", lag_seconds=lag)
        else:
            replica.take_in(position, lag, asked)

    def _failed(self, replica: Replica, error: Exception) -> None:
        replica.put_out(f"it cannot be asked: {type(error).__name__}")


def _checked(primary: Engine | AsyncEngine, replicas: Sequence[Engine | AsyncEngine]) -> list[Engine]:
    given: list[Any] = [primary, *replicas]
    for each in given:
        if not isinstance(each, Engine | AsyncEngine):
            raise SettingsError(
                f"primary and replicas must be SQLAlchemy engines, sync or async; {each!r} is none"
            )
    engines = [each.sync_engine if isinstance(each, AsyncEngine) else each for each in given]
    if len(engines) == 1:
        raise SettingsError("replicas is empty; give at least one replica's engine")
    for engine in engines:
        if engine.dialect.name != "postgresql":
            raise SettingsError(f"replicas are PostgreSQL's streaming replicas; {engine!r} is no PostgreSQL")
    if len({engine.dialect for engine in engines}) != len(engines):
        raise SettingsError("each of the primary and its replicas needs an engine of its own (create_engine)")
    if len({engine.dialect.is_async for engine in engines}) != 1:
        raise SettingsError("the primary and its replicas must be all sync or all async engines")
    return engines


def _names(engines: Sequence[Engine]) -> list[str]:
    """A name for each: its pool's, or its host and port; never two alike."""
    names: list[str] = []
    for engine in engines:
        url = engine.url
        parts = (url.host or url.query.get("host"), url.port or url.query.get("port"))
        address = ":".join(str(part) for part in parts if part)
        name = str(getattr(engine.pool, "logging_name", None) or address or "replica")
        number = sum(each.partition("#")[0] == name for each in names)
        names.append(f"{name}#{number + 1}" if number else name)
    return names
