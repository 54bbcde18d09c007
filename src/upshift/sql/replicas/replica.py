"""One replica: whether it is fit to be read, how far it has come, and what asking it costs."""

from __future__ import annotations

import logging
import threading
from time import monotonic
from typing import TYPE_CHECKING, Any

from sqlalchemy import event

from upshift.errors import DatabaseUnavailableError
from upshift.record.replica import ReplicaState
from upshift.sql.replicas.latency import Latency
from upshift.sql.replicas.sockets import Sockets
from upshift.sql.wrapping import unwrap, wrap

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.engine import Dialect, Engine
    from sqlalchemy.pool import PoolProxiedConnection

    from upshift.sql.replicas.position import Position

logger = logging.getLogger("upshift.sql")

CONNECT_SECONDS = 2
"""How long connecting to a replica may take, where its engine does not say; libpq takes no less than this."""

_CONNECT_TIMEOUTS = {"psycopg": "connect_timeout", "psycopg2": "connect_timeout", "asyncpg": "timeout"}
_ASSUMED_SECONDS = 0.001


class Replica:
    """One replica, as this process knows it.

    Args:
        engine: its (sync) engine.
        name: its name, for whoever operates it.
        wake: asks for a probe as soon as may be.

    Ending a transaction on a replica never fails: there is nothing to lose there. A COMMIT or ROLLBACK that
    is not answered, because the replica has died after the last read, would else fail a request that has all
    it wanted; or hide from the application that its write on the primary was committed.
    """

    def __init__(self, engine: Engine, name: str, wake: Callable[[], None]) -> None:
        self.engine = engine
        self.name = name
        self.wake = wake
        self.reason: str | None = "not asked yet"
        self.is_hanging = False
        self.position: Position | None = None
        self.lag_seconds: float | None = None
        self.latency = Latency(_ASSUMED_SECONDS, monotonic())
        self.open_transactions = 0
        self.failures = 0
        self.sockets = Sockets()
        self.may_always_connect: threading.Thread | None = None
        self.is_closed = False
        self._put_out_at = 0.0
        self._lock = threading.Lock()
        # Before SQLAlchemy's own listener, which asks the server for its types and may wait for it.
        event.listen(engine, "connect", self._connected, insert=True)
        event.listen(engine, "close", self._closing)
        event.listen(engine, "do_connect", self._connecting)
        for method in ("do_commit", "do_rollback"):
            wrap(engine.dialect, method, self._ending(getattr(engine.dialect, method)), self)

    def close(self) -> None:
        """Take out what was put into the engine. Calling it twice does nothing more."""
        if self.is_closed:
            return
        self.is_closed = True
        event.remove(self.engine, "connect", self._connected)
        event.remove(self.engine, "close", self._closing)
        event.remove(self.engine, "do_connect", self._connecting)
        for name in ("do_commit", "do_rollback"):
            unwrap(self.engine.dialect, name)

    def forget(self) -> None:
        """In a forked child: what is known, who reads and who holds the lock is the parent's.

        So are the sockets. To cut one here would cut it for the parent, which may be well.
        """
        self._lock = threading.Lock()
        self.sockets = Sockets()
        self.reason, self.is_hanging, self.position = "not asked yet", False, None
        self.open_transactions = 0

    @property
    def cost(self) -> float:
        """What one more transaction may expect, in seconds; see `upshift.sql.replicas.latency`."""
        return self.latency.seconds * (self.open_transactions + 1)

    @property
    def state(self) -> ReplicaState:
        """What is known of it."""
        reason = self.reason
        return ReplicaState(
            self.name,
            reason is None,
            reason or "",
            self.lag_seconds,
            self.position,
            self.latency.seconds,
            self.open_transactions,
            self.failures,
        )

    def fits(self, after: Position | None) -> bool:
        """Whether it is fit, and has what must be seen."""
        if self.reason is not None:
            return False
        # What it had replayed once, it has: the last answer is a lower bound.
        return after is None or (self.position is not None and self.position >= after)

    def take_in(self, position: Position, lag_seconds: float | None, asked: float) -> None:
        """It is well, as was found by asking at a (monotonic) time."""
        with self._lock:
            if asked <= self._put_out_at:
                return  # it was found to be ill after that
            self.position, self.lag_seconds, self.is_hanging = position, lag_seconds, False
            was, self.reason = self.reason, None
        if was is not None and self.failures:
            logger.warning("replica %s is read from again", self.name)

    def put_out(self, reason: str, *, is_hanging: bool = False, lag_seconds: float | None = None) -> None:
        """It is not well, and gets no reads until a probe says otherwise."""
        with self._lock:
            was, self._put_out_at = self.reason, monotonic()
            self.position, self.lag_seconds = None, lag_seconds
            if is_hanging or not self.is_hanging:  # connections are lost because it hangs, and were cut
                self.reason, self.is_hanging = reason, is_hanging
            if was is None:
                self.failures += 1
        if was is None:
            logger.warning("replica %s is not read from: %s", self.name, reason)
            self.wake()

    def begin(self) -> None:
        """A transaction reads from it."""
        with self._lock:
            self.open_transactions += 1

    def end(self) -> None:
        """That transaction is over."""
        with self._lock:
            self.open_transactions -= 1

    def _connected(self, connection: Any, _entry: object) -> None:  # noqa: ANN401 - any driver's
        self.sockets.add(connection)

    def _closing(self, connection: Any, _entry: object) -> None:  # noqa: ANN401 - likewise
        self.sockets.discard(connection)

    def _connecting(self, dialect: Dialect, _entry: object, _arguments: Any, options: dict[str, Any]) -> None:  # noqa: ANN401 - SQLAlchemy's signature
        if self.is_hanging and threading.current_thread() is not self.may_always_connect:
            raise DatabaseUnavailableError(f"replica {self.name} does not answer, so connecting is not tried")
        if (name := _CONNECT_TIMEOUTS.get(dialect.driver)) is not None:
            options.setdefault(name, CONNECT_SECONDS)

    def _ending(
        self, end: Callable[[PoolProxiedConnection], None]
    ) -> Callable[[PoolProxiedConnection], None]:
        def end_whatever_comes(connection: PoolProxiedConnection) -> None:
            try:
                end(connection)
            except Exception as error:
                if self.is_closed:
                    raise
                connection.invalidate(error, soft=True)  # nobody gets this connection again
                self.put_out(f"a transaction could not be ended: {type(error).__name__}")

        return end_whatever_comes
