"""The limit of one live `QueuePool`: how many of its connections may be in use, changed while it serves.

SQLAlchemy's pools have their size for life. It is kept in two private numbers, pinned by `tests/contract`:
`_pool.maxsize` and `_overflow`, which is the number of open connections less that one. No connection is made
while `_overflow >= _max_overflow`, so with `_max_overflow` at 0 the size is the most that can be open.

*Invariant.* The limit is the size, less the connections that are parked, less those still to be parked
(`debt`). A parked connection is open and in nobody's hands. So the limit falls without closing and rises
without connecting, which is what makes trying another limit for half a second cheap. `trim` closes what stays
parked.

*Lowering* takes first what was never opened, then what idles, then what comes back next; nobody's connection
is taken away. *Raising* goes the same way back. Numbers change under SQLAlchemy's own `_overflow_lock`, which
every change of `_overflow` holds; a synchronous queue that is over its `maxsize` would never count as full
again, and is not, as what is parked is not in it.

Everything here is called from where the pool's connections are used: any thread for a synchronous pool, a
greenlet in the event loop for an asynchronous one.
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from threading import Lock
from typing import TYPE_CHECKING

from sqlalchemy.util import queue as sa_queue

from upshift.sql.pool.opening import open_one
from upshift.sql.wrapping import unwrap, wrap

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.pool import ConnectionPoolEntry, Pool, QueuePool

_WRAPPED = ("_do_return_conn", "dispose", "recreate")


class Capacity:
    """Takes the limit of a pool over, until it is closed.

    Args:
        pool: the pool.
        limit: the limit to start with; the pool's own where it is not given, and 15 where it has none.

    Attributes:
        pool: the pool that is in use now: `Engine.dispose` puts another one in its place.
        returned: grows by one item for each connection that comes back; whoever reads it empties it.

    Example:
        >>> from sqlalchemy.pool import QueuePool
        >>> import sqlite3
        >>> pool = QueuePool(lambda: sqlite3.connect(":memory:"), pool_size=5, max_overflow=10)
        >>> capacity = Capacity(pool)
        >>> capacity.limit
        15
        >>> capacity.set_limit(2)
        >>> pool.size(), pool.overflow()
        (2, -2)
        >>> capacity.close()
        >>> pool.size(), pool._max_overflow
        (5, 10)
    """

    def __init__(self, pool: QueuePool, limit: int | None = None) -> None:
        self.is_closed = False
        self.returned: deque[None] = deque(maxlen=MAX_COUNTED)
        self._size, self._max_overflow = pool.size(), pool._max_overflow
        self._lock = Lock()
        self._parked: list[ConnectionPoolEntry] = []
        self._debt = 0
        self.own_limit = None if self._max_overflow < 0 else self._size + self._max_overflow
        self._take(pool, self.own_limit or UNLIMITED)
        if limit is not None:
            self.set_limit(limit)

    @property
    def limit(self) -> int:
        """How many connections may be in use."""
        with self._lock:
            return self.pool.size() - len(self._parked) - self._debt

    @property
    def open(self) -> int:
        """How many connections are open, or being opened."""
        return self.pool.size() + self.pool._overflow

    @property
    def parked(self) -> int:
        """How many of them are open and may not be used."""
        return len(self._parked)

    def set_limit(self, limit: int) -> None:
        """Change the limit; connections in use above a lower one are kept from use when they come back.

        Raises:
            ValueError: the limit is below one.
        """
        if limit < 1:
            raise ValueError(f"a pool cannot have {limit} connections")
        change = limit - self.limit
        if change > 0:
            self._raise(change)
        elif change < 0:
            self._lower(-change)

    def open_ahead(self, count: int) -> int:
        """Open connections that the limit allows, and put them where who waits finds them.

        Returns:
            how many were opened; fewer where no more are allowed.

        Raises:
            Exception: the driver's, where the database refused.
        """
        for number in range(count):
            if not open_one(self.pool):
                return number
        return count

    def trim(self, keep: int = 0) -> int:
        """Close parked connections but for some, and let the pool's size follow.

        Returns:
            how many were closed.
        """
        closed = 0
        while (entry := self._take_parked(keep)) is not None:
            entry.close()
            closed += 1
        return closed

    def close(self) -> None:
        """Give the pool its own size back. Calling it twice does nothing more.

        What idles above it is closed at a synchronous pool. At an asynchronous one that would need its event
        loop; there, as with what is in use, connections are closed as they come back.
        """
        if self.is_closed:
            return
        pool = self.pool
        self._raise(len(self._parked) + self._debt)
        self.is_closed = True
        surplus = self._surplus(pool)
        with pool._overflow_lock:
            opened = self.open
            _set_size(pool, self._size)
            pool._max_overflow = self._max_overflow
            pool._overflow = opened - self._size - len(surplus)
        for entry in surplus:
            entry.close()
        for name in _WRAPPED:
            unwrap(pool, name)

    def forget(self) -> None:
        """In a forked child: the parked connections are the parent's, and so is who may hold the lock."""
        self._lock = Lock()
        self.pool._overflow_lock = Lock()
        _set_size(self.pool, self.pool.size() - len(self._parked))
        self._parked.clear()

    def _surplus(self, pool: QueuePool) -> list[ConnectionPoolEntry]:
        surplus: list[ConnectionPoolEntry] = []
        if self._size and not pool._is_asyncio:
            with suppress(sa_queue.Empty):
                while pool.checkedin() > self._size:
                    surplus.append(pool._pool.get(False))
        return surplus

    def _take(self, pool: QueuePool, limit: int) -> None:
        """Make a pool's size its limit."""
        self.pool = pool
        with pool._overflow_lock:
            opened = self.open
            _set_size(pool, limit)
            pool._overflow = opened - limit
            pool._max_overflow = 0
        wrap(pool, "_do_return_conn", self._returning(pool), self)
        wrap(pool, "dispose", self._disposing(pool), self)
        wrap(pool, "recreate", self._recreating(pool), self)

    def _raise(self, count: int) -> None:
        with self._lock:
            paid = min(self._debt, count)
            self._debt -= paid
            back = [self._parked.pop() for _ in range(min(len(self._parked), count - paid))]
        for entry in back:
            self._give_back(entry)
        self._grow(count - paid - len(back))

    def _lower(self, count: int) -> None:
        with self.pool._overflow_lock:
            unopened = min(count, max(0, -self.pool._overflow))
            _set_size(self.pool, self.pool.size() - unopened)
            self.pool._overflow += unopened
        count -= unopened
        with self._lock, suppress(sa_queue.Empty):
            while count:
                self._parked.append(self.pool._pool.get(False))
                count -= 1
        with self._lock:
            self._debt += count

    def _grow(self, count: int) -> None:
        with self.pool._overflow_lock:
            _set_size(self.pool, self.pool.size() + count)
            self.pool._overflow -= count

    def _take_parked(self, keep: int) -> ConnectionPoolEntry | None:
        with self._lock, self.pool._overflow_lock:
            if len(self._parked) <= keep:
                return None
            _set_size(self.pool, self.pool.size() - 1)  # as one fewer is open, `_overflow` stays
            return self._parked.pop()

    def _returning(self, pool: QueuePool) -> Callable[[ConnectionPoolEntry], None]:
        give_back = self._give_back = pool._do_return_conn
        count = self.returned.append

        def counted_return(entry: ConnectionPoolEntry) -> None:
            count(None)
            if not self._debt or pool is not self.pool or not self._is_parked(entry):
                give_back(entry)

        return counted_return

    def _is_parked(self, entry: ConnectionPoolEntry) -> bool:
        with self._lock:
            if not self._debt:
                return False
            self._debt -= 1
            self._parked.append(entry)
            return True

    def _disposing(self, pool: QueuePool) -> Callable[[], None]:
        dispose = pool.dispose

        def dispose_of_all() -> None:
            if pool is not self.pool:
                dispose()
                return
            limit = self.limit
            self._raise(len(self._parked) + self._debt)
            dispose()
            self.set_limit(limit)

        return dispose_of_all

    def _recreating(self, pool: QueuePool) -> Callable[[], Pool]:
        recreate = pool.recreate

        def recreate_alike() -> Pool:
            limit = self.limit
            new: QueuePool = recreate()
            if pool is self.pool and not self.is_closed:
                self._parked, self._debt = [], 0
                self._take(new, limit)
            return new

        return recreate_alike


MAX_COUNTED = 100_000
"""Returns counted between two looks."""

UNLIMITED = 15
"""Where a pool without a limit starts: what SQLAlchemy's pools allow by default."""


def is_taken(pool: Pool) -> bool:
    """Whether somebody changes the limit of a pool already; two would undo what each other does."""
    method = vars(pool).get("recreate")
    while method is not None:
        owner = getattr(method, "owner", None)
        if isinstance(owner, Capacity) and not owner.is_closed:
            return True
        method = getattr(method, "__wrapped__", None)
    return False


def _set_size(pool: QueuePool, size: int) -> None:
    pool._pool.maxsize = size
    inner = vars(pool._pool).get("_queue")  # asyncio's queue, made when it is first used
    if inner is not None:
        inner._maxsize = size
