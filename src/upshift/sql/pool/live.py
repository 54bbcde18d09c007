"""What is at each pool right now: who has its connections, for how long, and who waits."""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING

import msgspec
from sqlalchemy.pool import QueuePool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from sqlalchemy.pool import Pool

    from upshift.record import Record
    from upshift.sql.pool.leaks import Loan

MAX_SHOWN = 200
"""Uses, and waits, that are told of one pool; the oldest."""


@dataclass(frozen=True, slots=True)
class Use:
    """Somebody who has a connection, or waits for one.

    Attributes:
        seconds: for how long.
        site: the application's line that asked for it, as `file:line function`; "" where it is not known.
        route: its request's (`GET /orders/{order_id}`); "" outside of requests.
        request_id: its request's; "" outside of requests.
        statements: statements of the request that were sent on it.
        in_transaction: whether a transaction is open.
    """

    seconds: float
    site: str
    route: str
    request_id: str
    statements: int
    in_transaction: bool


@dataclass(frozen=True, slots=True)
class PoolView:
    """A pool as it is now.

    Attributes:
        pool: its name.
        kind: its class.
        size: connections that it keeps; None where the pool does not tell.
        overflow: connections above that; None likewise.
        idle: connections that wait to be used; None likewise.
        maximum: connections that may be in use; None where there is no limit.
        parked: open connections that automatic sizing keeps from use.
        in_use: who has a connection, the longest first.
        waiting: who waits for one, the longest first.
    """

    pool: str
    kind: str
    size: int | None
    overflow: int | None
    idle: int | None
    maximum: int | None
    parked: int
    in_use: tuple[Use, ...]
    waiting: tuple[Use, ...]


def view(
    name: str,
    pool: Pool,
    parked: int,
    loans: Iterable[Loan],
    route_of: Callable[[Record], str | None],
) -> PoolView:
    """Look at a pool; `loans` are those who have its connections or wait for one."""
    now = perf_counter()
    in_use = [(now - loan.obtained, loan) for loan in loans if loan.obtained]
    waiting = [(now - loan.asked, loan) for loan in loans if not loan.obtained]
    return PoolView(
        name,
        type(pool).__name__,
        *_numbers(pool),
        maximum(pool, parked),
        parked,
        _longest(in_use, route_of),
        _longest(waiting, route_of),
    )


def idle(pool: Pool) -> int | None:
    """How many connections wait to be used; None where the pool does not tell."""
    return pool.checkedin() if isinstance(pool, QueuePool) else None


def maximum(pool: Pool, parked: int) -> int | None:
    """How many connections may be in use; None where there is no limit."""
    if not isinstance(pool, QueuePool) or pool._max_overflow < 0:
        return None
    return pool.size() + pool._max_overflow - parked


def _numbers(pool: Pool) -> tuple[int | None, int | None, int | None]:
    if not isinstance(pool, QueuePool):
        return None, None, None
    return pool.size(), max(0, pool.overflow()), pool.checkedin()


def _longest(loans: list[tuple[float, Loan]], route_of: Callable[[Record], str | None]) -> tuple[Use, ...]:
    loans.sort(key=lambda each: -each[0])
    return tuple(_use(loan, seconds, route_of) for seconds, loan in loans[:MAX_SHOWN])


def _use(loan: Loan, seconds: float, route_of: Callable[[Record], str | None]) -> Use:
    record = loan.record
    route = route_of(record) if record is not None else None
    return Use(
        seconds=round(seconds, 6),
        site=str(loan.site or ""),
        route=f"{record.method} {route}" if record is not None and route is not None else "",
        request_id=record.request_id if record is not None else "",
        statements=len(loan.statements),
        in_transaction=bool(loan.began),
    )


def encode_pools(views: tuple[PoolView, ...]) -> bytes:
    """Write views as one JSON object, for whoever asks the running application.

    Example:
        >>> encode_pools(())
        b'{"version":1,"pools":[]}'
    """
    return msgspec.json.encode({"version": 1, "pools": views})
