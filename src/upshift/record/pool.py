"""What happened at a connection pool: each use of a connection, and the state of the pool.

A `Checkout` is written while its connection is in use, by whoever knows of it; it is read afterwards.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from upshift.record.model import Record, Statement

TransactionOutcome = Literal["commit", "rollback", "close", "error"]
"""How a transaction ended: `close` where its connection was given back without the one or the other, as after
reading; `error` where its commit failed or its connection was lost."""


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
        "obtained",
        "pool",
        "record",
        "returned",
        "statements",
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
