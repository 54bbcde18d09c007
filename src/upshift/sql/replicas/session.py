"""The session that reads from replicas and writes to the primary.

The problem
    A replica is behind the primary by milliseconds, or by minutes. Whoever sends each SELECT to one of them
    breaks what an application takes for granted: that it sees what it has just written, that a row which was
    there is there a moment later, that what it decides on is true. What is sent where must not depend on
    luck.

The invariant
    *What a session reads is never older than what it, or the visit that it belongs to, has written before or
    has read before.* (Read-your-writes and monotonic reads, two of the session guarantees of Terry et al.,
    "Session guarantees for weakly consistent replicated data", PDIS 1994. A visit is a request or a job; see
    `upshift.sql.replicas.visit`.) It holds because a transaction moves at most once, from a replica to the
    primary, which is never behind; because a visit reads from one replica only, or from the primary; and
    because a visit that has written reads from the primary until every fit replica has what it wrote. From
    one request to the next a position in the log carries it (`upshift.sql.replicas.middleware`).

The rules
    1. A statement that is proved to read (`upshift.sql.replicas.reading`) goes to a replica. Any other goes
       to the primary: a flush, DML, FOR UPDATE, a text that might write, `session.connection()`.
    2. Once a transaction is on the primary it stays there: lazy loads and refreshes after a write see it.
    3. Savepoints, two-phase commit, REPEATABLE READ and SERIALIZABLE ask for one snapshot or one server for
       all: everything goes to the primary.
    4. Binds that are not the primary's engine, such as the connection of a test, are left as they are.

    A transaction that reads from a replica and then writes is in truth two transactions. Under READ
    COMMITTED, where each statement has a snapshot of its own, that is no difference but this: what it read
    may be older than it would be on the primary, so the window for a lost update is larger. Objects that
    were loaded from a replica are flushed to the primary; a `version_id_col` finds the update that would be
    lost. Requests that are to change something (POST, PUT, …) therefore begin on the primary.

The races
    *A replica dies under a statement.* A standby cannot write, so a read may be run again. The first one of a
    visit is run on another replica, a later one on the primary. This is done once, and only where the failure
    is the replica's: a lost connection, a server that shuts down, a conflict with recovery (40001), a
    statement that wrote after all (25006). Whatever happens on the primary is never run again. Rows that are
    streamed are not fetched again.

    *A replica dies between its last read and the end of the transaction.* Ending a transaction on a replica
    never fails (`upshift.sql.replicas.replica`): else a COMMIT that the primary has carried out could look as
    if it had failed, and be done a second time by the application.

    *A replica is promoted.* It answers that it is no replica, and is put out. Positions of the old timeline
    are before all of the new one (`upshift.sql.replicas.position`), so nobody waits for what was lost.

    *The position is read after the commit.* It is that of the end of the log at a later moment, so never too
    low, and where the log ends at the end of a page, it is that of the last record.

    *Clocks.* Lag is measured on the monotonic clock of this process. Only the end of a token's validity
    compares wall clocks of two machines; it has to be longer than the greatest lag by what those may differ.

Precedents
    SQLAlchemy's recipe for a `get_bind()` that routes; advanced-alchemy's routing sessions; Rails'
    `DatabaseSelector` (primary for two seconds after a write); GitLab's load balancer, which compares
    positions of the log. The first three draw a new replica for each statement, or have one transaction on
    several; the last one's faults with sticking while only some replicas have caught up (gitlab#413203) are
    why a position is compared with the replica that is read, at each visit.

`SessionTransaction._connections` and `Session._connection_for_bind` are private; `tests/contract` pins them.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from sqlalchemy import CompoundSelect, Engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm import Session

from upshift.sql.replicas.visit import Visit

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.engine import Connection
    from sqlalchemy.orm import SessionTransaction

    from upshift.sql.replicas.replica import Replica
    from upshift.sql.replicas.replicas import Replicas

T = TypeVar("T")

ELSEWHERE = frozenset({"25006", "40001", "57P01", "57P02", "57P03"})
"""SQLSTATEs of a standby with which a read may do well elsewhere: it was no read, it was in the way of
recovery, the server shuts down, it has crashed, it takes no connections."""

_ONE_SNAPSHOT = frozenset({"REPEATABLE READ", "SERIALIZABLE"})


class _Route:
    """Where one transaction of a session is.

    Attributes:
        visit: the visit that it is a part of.
        replica: the replica that it reads from; None where none was chosen.
        is_begun: whether it has begun on the replica.
        on_primary: whether it has begun on the primary.
        leaves_replicas: whether it reads from no replica any more.
        may_write: whether something was asked for that may write.
        is_writing: whether its visit knows that.
        is_committed: whether it was committed.
        tried: replicas that could not be had.
    """

    __slots__ = (
        "is_begun",
        "is_committed",
        "is_writing",
        "leaves_replicas",
        "may_write",
        "on_primary",
        "replica",
        "tried",
        "visit",
    )

    def __init__(self, visit: Visit) -> None:
        self.visit = visit
        self.replica: Replica | None = None
        self.is_begun = False
        self.on_primary = False
        self.leaves_replicas = False
        self.may_write = False
        self.is_writing = False
        self.is_committed = False
        self.tried: tuple[Replica, ...] = ()


class RoutingSession(Session):
    """A session that reads from replicas; `Replicas.session_class` is one for its engines.

    Without a `bind` it is bound to the primary.

    Attributes:
        replicas: the replicas that it reads from.
    """

    replicas: ClassVar[Replicas]

    def __init__(self, bind: Engine | Connection | None = None, **options: Any) -> None:  # noqa: ANN401 - Session's
        super().__init__(self.replicas.engine if bind is None else bind, **options)
        self._own_visit = Visit()
        self._route: _Route | None = None
        self._asked: Engine | Connection | None = None

    def get_bind(
        self,
        mapper: Any = None,  # noqa: ANN401 - Session's signature
        *,
        clause: Any = None,  # noqa: ANN401 - likewise
        **options: Any,  # noqa: ANN401 - likewise
    ) -> Engine | Connection:
        """Return the engine for a statement: a replica's for one that only reads, else the primary's."""
        bind = super().get_bind(mapper, clause=clause, **options)
        if bind is self.replicas.engine and not self.replicas.is_closed:
            bind = self._routed(bind, clause)
        self._asked = bind  # whose fault it is if the statement fails
        return bind

    def _routed(self, primary: Engine | Connection, clause: Any) -> Engine | Connection:  # noqa: ANN401 - likewise
        route = self._route
        if route is None or not self.in_transaction():  # somebody may have asked, and not gone there
            self._route = route = _Route(self.replicas.visit_now or self._own_visit)
        if clause is None or self._flushing or not self.replicas.reading.is_read(clause):
            route.may_write = True
            if route.on_primary:
                _begin_writing(route)
            return primary
        replica = self._replica(route)
        return primary if replica is None else replica.engine

    def execute(self, statement: Any, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401 - one for all overloads
        """Execute a statement, and a read again elsewhere where its replica fails."""
        return self._read(super().execute, statement, *arguments, **options)

    def scalar(self, statement: Any, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401 - likewise
        """Execute a statement like `execute`, and return its first value."""
        return self._read(super().scalar, statement, *arguments, **options)

    def scalars(self, statement: Any, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401 - likewise
        """Execute a statement like `execute`, and return its first column."""
        return self._read(super().scalars, statement, *arguments, **options)

    def _read(self, run: Callable[..., T], statement: Any, *arguments: Any, **options: Any) -> T:  # noqa: ANN401 - likewise
        if isinstance(statement, CompoundSelect):  # SQLAlchemy does not tell `get_bind` of one of entities
            options["bind_arguments"] = {"clause": statement, **(options.get("bind_arguments") or {})}
        started = monotonic()
        try:
            result = run(statement, *arguments, **options)
        except Exception as error:
            if not self._leave_replica(error):
                raise
            return run(statement, *arguments, **options)
        route = self._route
        if route is not None and route.is_begun and not route.on_primary:
            replica = route.replica
            assert replica is not None
            now = monotonic()
            replica.latency.tell(now - started, now)
            route.visit.has_read = True
        return result

    def _replica(self, route: _Route) -> Replica | None:
        """The replica that the transaction reads from now; None where it has to be the primary."""
        if route.on_primary or route.leaves_replicas or self.in_nested_transaction():
            return None
        if route.visit.stays_on_primary or self.replicas.is_primary_asked_for:
            return None
        if not route.is_begun:
            if self.twophase or self._wants_one_snapshot():
                return None
            route.replica = self.replicas.choose(route.visit, route.tried)
        return route.replica

    def _wants_one_snapshot(self) -> bool:
        options: Any = getattr(self, "execution_options", {})  # SQLAlchemy 2.1 has them
        return (options.get("isolation_level") or self.replicas.isolation_level) in _ONE_SNAPSHOT

    def _connection_for_bind(self, engine: Any, *arguments: Any, **options: Any) -> Connection:  # noqa: ANN401 - Session's signature
        """Connect, and where a replica cannot be had, to the next one, at last to the primary."""
        while True:
            route = self._route
            replica = None if route is None or route.is_begun else route.replica
            if route is None or replica is None or engine is not replica.engine:
                return super()._connection_for_bind(engine, *arguments, **options)
            try:
                return super()._connection_for_bind(engine, *arguments, **options)
            except PoolTimeoutError:
                raise  # there are connections, all in use: the primary's would be next
            except Exception as error:
                if route.is_begun:
                    raise  # not by the replica, but by a listener of the application's
                replica.put_out(f"it cannot be connected to: {type(error).__name__}")
                route.tried += (replica,)
                route.replica = None
                chosen = self._replica(route)
                engine = self.replicas.engine if chosen is None else chosen.engine

    def _leave_replica(self, error: Exception) -> bool:
        """Take the transaction off its replica where the error is the replica's, and tell whether it is."""
        route = self._route
        if route is None or route.on_primary or not route.is_begun or not isinstance(error, DBAPIError):
            return False
        replica, transaction = route.replica, self._transaction
        if replica is None or self._asked is not replica.engine:
            return False
        if error.connection_invalidated:
            replica.put_out(f"a connection was lost: {type(error.orig).__name__}")
        elif sqlstate_of(error) not in ELSEWHERE:
            return False
        if transaction is None or replica.engine not in transaction._connections:
            return False
        connection = transaction._connections.pop(replica.engine)[0]
        transaction._connections.pop(connection)
        connection.close()
        replica.end()
        route.is_begun = False
        route.replica = None
        route.tried += (replica,)
        # What was read must not be unread, and what is refused here is refused by its like.
        route.leaves_replicas = route.visit.has_read or not error.connection_invalidated
        return True


def sqlstate_of(error: DBAPIError) -> str:
    """The SQLSTATE of a database's answer; "" where the driver tells none."""
    return str(getattr(error.orig, "sqlstate", None) or getattr(error.orig, "pgcode", None) or "")


def routing_session(replicas: Replicas) -> type[RoutingSession]:
    """Return the class of sessions that read from these replicas."""
    session_class = type("RoutingSession", (RoutingSession,), {"replicas": replicas})
    event.listen(session_class, "after_begin", _after_begin)
    event.listen(session_class, "after_commit", _after_commit)
    event.listen(session_class, "after_transaction_end", _after_end)
    return session_class


def _begin_writing(route: _Route) -> None:
    if not route.is_writing:
        route.is_writing = True
        route.visit.begin_writing()


def _after_begin(session: RoutingSession, _transaction: SessionTransaction, connection: Connection) -> None:
    route = session._route
    if route is None:
        return
    if connection.engine is session.replicas.engine:
        route.on_primary = True
        if route.may_write:
            _begin_writing(route)
    elif route.replica is not None and connection.engine is route.replica.engine and not route.is_begun:
        route.is_begun = True
        route.replica.begin()


def _after_commit(session: RoutingSession) -> None:
    if session._route is not None and not session.in_nested_transaction():
        session._route.is_committed = True


def _after_end(session: RoutingSession, transaction: SessionTransaction) -> None:
    route = session._route
    if route is None or transaction.parent is not None:
        return
    session._route = None
    if route.is_begun and route.replica is not None:
        route.replica.end()
    if route.is_writing:
        replicas = session.replicas
        is_committed = route.is_committed or replicas.isolation_level == "AUTOCOMMIT"
        route.visit.end_writing(replicas.catch_up_seconds if is_committed else None)
    if route.visit is session._own_visit:
        route.visit.forget()  # outside of visits each transaction may read from another replica
