"""What happened at a connection pool: each use of a connection, and the state of the pool.

A `Checkout` is written while its connection is in use, by whoever knows of it; it is read afterwards. It
knows its record, and a record that knew its checkouts would live until the garbage collector comes; so a
complete record has `Hold`s in their place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from upshift.record.callsite import CallSite
    from upshift.record.model import Record, Statement

TransactionOutcome = Literal["commit", "rollback", "close", "error"]
"""How a transaction ended: `close` where its connection was given back without the one or the other, as after
reading; `error` where its commit failed or its connection was lost."""


class Transaction(NamedTuple):
    """A transaction that has ended.

    Times are those of `time.perf_counter()`, in seconds.

    Attributes:
        began: when it began.
        ended: when it was over.
        ending_seconds: time spent to end it.
        outcome: how it ended.
        site: the application's line that committed it; None for other ends, and where none was found.
        first: the first of its statements, as a position among those of its connection's use.
        after: the position after the last of them.
    """

    began: float
    ended: float
    ending_seconds: float
    outcome: TransactionOutcome
    site: CallSite | None
    first: int
    after: int


class Checkout:
    """One use of a connection: taken from its pool, and given back.

    Times are those of `time.perf_counter()`, in seconds; 0.0 for what has not happened.

    Attributes:
        pool: the pool's name.
        record: the request that took the connection; None outside of requests.
        asked: when the pool was asked for a connection.
        obtained: when it had handed one out.
        returned: when the connection was given back.
        statements: the statements of `record` that were sent on it.
        ending_seconds: time spent to end transactions.
        began: when the open transaction began; 0.0 outside of one.
        first: how many statements had been sent then.
        transactions: those that have ended, where they had statements of `record`.

    Example:
        >>> checkout = Checkout("shop", None, asked=10.0)
        >>> checkout.obtained, checkout.returned = 10.5, 12.5
        >>> checkout.wait_seconds, checkout.use_seconds, checkout.idle_seconds
        (0.5, 2.0, None)
    """

    __slots__ = (
        "asked",
        "began",
        "ending_seconds",
        "first",
        "obtained",
        "pool",
        "record",
        "returned",
        "statements",
        "transactions",
    )

    def __init__(self, pool: str, record: Record | None, asked: float) -> None:
        self.pool = pool
        self.record = record
        self.asked = asked
        self.obtained = 0.0
        self.returned = 0.0
        self.statements: list[Statement] = []
        self.ending_seconds = 0.0
        self.began = 0.0
        self.first = 0
        self.transactions: list[Transaction] = []

    @property
    def wait_seconds(self) -> float:
        """How long the pool let wait, connecting included."""
        return self.obtained - self.asked

    @property
    def use_seconds(self) -> float:
        """How long the connection was in use."""
        return self.returned - self.obtained

    @property
    def idle_seconds(self) -> float | None:
        """How long it was in use while the database had nothing to do.

        None where that is not known: outside of requests, whose statements are not recorded, and in one that
        sent more statements than a record keeps.
        """
        if self.record is None or self.record.statements_dropped:
            return None
        busy = self.ending_seconds
        for statement in self.statements:
            busy += statement.execute_seconds + statement.fetch_seconds
        # Rows may have been read on two threads at a time, or after the connection was given back.
        return max(0.0, self.use_seconds - busy)


class Gap(NamedTuple):
    """A time in which a connection was held and the database had nothing to do.

    Attributes:
        started: when it started, as `time.perf_counter()` in seconds.
        seconds: how long it was.
        after: the statement before it; None where none had been sent.
        is_reading: whether the rows of that statement were being read, some at a time.
        in_transaction: whether a transaction was open.
    """

    started: float
    seconds: float
    after: Statement | None
    is_reading: bool
    in_transaction: bool


class Hold(NamedTuple):
    """One use of a connection by a request, as its record keeps it.

    Times are those of `time.perf_counter()`, in seconds.

    Attributes:
        pool: the pool's name.
        asked: when the pool was asked for a connection.
        obtained: when it had handed one out.
        until: when the connection was given back or, where it was not, when the request was over.
        is_returned: whether it was given back.
        statements: those that were sent on it, in order.
        transactions: those of its transactions that had statements, in order.
        began: when a transaction began that was not ended; 0.0 where there is none.
    """

    pool: str
    asked: float
    obtained: float
    until: float
    is_returned: bool
    statements: list[Statement]
    transactions: list[Transaction]
    began: float = 0.0

    @property
    def seconds(self) -> float:
        """How long the connection was held."""
        return self.until - self.obtained

    def gaps(self) -> Iterator[Gap]:
        """Yield the times in which the database had nothing to do, in order.

        Example:
            >>> from upshift.record.model import Statement
            >>> query = Statement("SELECT 1", started=11.0)
            >>> query.execute_seconds, query.ended = 0.5, 11.5
            >>> hold = Hold("shop", 10.0, 11.0, 14.0, True, [query], [])
            >>> [(gap.started, gap.seconds) for gap in hold.gaps()]
            [(11.5, 2.5)]
        """
        ends = [(each.ended - each.ending_seconds, each.ended, None) for each in self.transactions]
        busy = [(each.started, each.ended, each) for each in self.statements]
        before: Statement | None = None
        free = self.obtained
        for started, ended, statement in sorted((*busy, *ends), key=lambda each: each[:2]):
            if started > free:
                yield self._gap(free, started - free, before)
            if statement is not None:
                before = statement
                reading = statement.ended - statement.started - statement.seconds
                if reading > 0.0:
                    yield self._gap(statement.started, reading, statement, is_reading=True)
            free = max(free, ended)
        if self.until > free:
            yield self._gap(free, self.until - free, before)

    def _gap(
        self, started: float, seconds: float, after: Statement | None, *, is_reading: bool = False
    ) -> Gap:
        in_transaction = any(each.began <= started < each.ended for each in self.transactions)
        return Gap(started, seconds, after, is_reading, in_transaction or 0.0 < self.began <= started)


def hold_of(checkout: Checkout, now: float) -> Hold:
    """Return what a record keeps of a use of a connection.

    Args:
        checkout: the use.
        now: when the request is over.
    """
    return Hold(
        checkout.pool,
        checkout.asked,
        checkout.obtained,
        checkout.returned or now,
        bool(checkout.returned),
        checkout.statements,
        checkout.transactions,
        checkout.began,
    )


class PoolState(NamedTuple):
    """How many connections a pool has.

    Attributes:
        pool: its name.
        used: connections in use.
        idle: connections that wait to be used; None where the pool does not tell.
        maximum: connections it may have at most; None where there is no limit.
        pending: requests for a connection that wait.
    """

    pool: str
    used: int
    idle: int | None
    maximum: int | None
    pending: int
