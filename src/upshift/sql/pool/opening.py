"""Opens connections before anybody asks for them: at the start, and where a limit was raised.

What is opened goes where idle connections are, so who waits finds it. A database that is away stops nobody:
the application starts without, and connects when it first has to.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from sqlalchemy.pool import QueuePool
from sqlalchemy.util import greenlet_spawn

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy.engine import Engine

logger = logging.getLogger("upshift.sql")


def open_one(pool: QueuePool) -> bool:
    """Open a connection and leave it idle in its pool; False where the pool may have no more.

    An asynchronous pool is called in a greenlet of SQLAlchemy's.

    Raises:
        Exception: the driver's, where the database refused.

    Example:
        >>> import sqlite3
        >>> pool = QueuePool(lambda: sqlite3.connect(":memory:"), pool_size=1, max_overflow=0)
        >>> open_one(pool), open_one(pool), pool.checkedin()
        (True, False, 1)
    """
    if not pool._inc_overflow():
        return False
    try:
        entry = pool._create_connection()
    except BaseException:
        pool._dec_overflow()
        raise
    pool._do_return_conn(entry)
    return True


async def warm(engines: Iterable[Engine], count: int, seconds: float) -> int:
    """Open connections of each engine's pool, all at once.

    Args:
        engines: the (sync) engines; the pool of an `AsyncEngine` is opened in the running event loop.
        count: connections for each, at most its pool's size.
        seconds: how long to wait for them. What a thread is connecting by then is used when it is there; what
            the event loop is connecting is given up.

    Returns:
        how many were opened in time.

    Example:
        >>> import sqlalchemy as sa
        >>> engine = sa.create_engine("sqlite:///:memory:", poolclass=QueuePool, pool_size=3)
        >>> asyncio.run(warm([engine], 2, seconds=5))
        2
    """
    opening: set[asyncio.Future[bool]] = set()
    for engine in engines:
        pool = engine.pool
        if isinstance(pool, QueuePool):
            for _ in range(min(count, pool.size()) - pool.checkedin()):
                one = (
                    greenlet_spawn(open_one, pool) if pool._is_asyncio else asyncio.to_thread(open_one, pool)
                )
                opening.add(asyncio.ensure_future(one))
    if not opening:
        return 0
    done, late = await asyncio.wait(opening, timeout=seconds)
    for each in late:
        each.cancel()
    await asyncio.gather(*late, return_exceptions=True)
    failures = [error for each in done if (error := each.exception()) is not None]
    if failures or late:
        logger.warning(
            "%d of %d connections were opened at the start%s",
            len(done) - len(failures),
            len(opening),
            f"; the first that failed: {failures[0]}" if failures else f" within {seconds:g} s",
        )
    return len(done) - len(failures)
