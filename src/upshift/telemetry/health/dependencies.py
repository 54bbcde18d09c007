"""Ready-made checks of what a service usually depends on."""

from __future__ import annotations

import shutil
from functools import partial
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import StaticPool

from upshift.errors import MissingExtraError
from upshift.telemetry.calls import is_async
from upshift.telemetry.health.checks import TypedCheck

if TYPE_CHECKING:
    import os

    from sqlalchemy.engine import Engine


def engine_check(engine: Engine | AsyncEngine) -> TypedCheck:
    """Check that a connection of an engine's pool answers `SELECT 1`.

    A pool that is exhausted fails the check when its timeout is over, as a database does that hangs. An
    engine whose connection all share (`StaticPool`, an SQLite database in memory) is not asked: to give the
    connection back would roll back what others have begun on it.

    Example:
        >>> from sqlalchemy.pool import NullPool
        >>> engine_check(sa.create_engine("sqlite://", poolclass=NullPool)).function()
    """
    if isinstance(engine.pool, StaticPool):
        return TypedCheck(lambda: "one connection for all, not asked", "datastore")
    if isinstance(engine, AsyncEngine):
        return TypedCheck(partial(_select_async, engine), "datastore")
    return TypedCheck(partial(_select, engine), "datastore")


def redis_check(client: Any) -> TypedCheck:  # noqa: ANN401 - redis-py's clients, or ones like them
    """Check that a Redis or Valkey server answers `PING`.

    Args:
        client: a client of redis-py's or one like it, sync or async; or a URL, to which each check opens a
            connection of its own, in whichever event loop of asyncio's it runs.

    Raises:
        MissingExtraError: a URL is given, and redis-py is not installed.

    Example:
        >>> redis_check("redis://localhost").component_type
        'datastore'
    """
    if not isinstance(client, str):
        # `ping` of an async client is no coroutine function, though it returns a coroutine.
        ask = partial(_ping, client) if is_async(client.execute_command) else client.ping
        return TypedCheck(ask, "datastore")
    try:
        from redis.asyncio import Redis
    except ModuleNotFoundError as error:
        raise MissingExtraError("a health check of Redis", "redis") from error

    async def ping() -> None:
        async with Redis.from_url(client) as connected:
            await connected.ping()

    return TypedCheck(ping, "datastore")


def disk_check(path: str | os.PathLike[str], minimum_free_bytes: int) -> TypedCheck:
    """Check that there is room on the disk that holds a path.

    Example:
        >>> disk_check("/", minimum_free_bytes=0).function().endswith(" bytes free")
        True
    """

    def ask() -> str:
        free = shutil.disk_usage(path).free
        if free < minimum_free_bytes:
            raise OSError(f"{free} bytes free, fewer than {minimum_free_bytes}")
        return f"{free} bytes free"

    return TypedCheck(ask, "system")


def _select(engine: Engine) -> None:
    with engine.connect() as connection:
        connection.execute(sa.select(1))


async def _select_async(engine: AsyncEngine) -> None:
    async with engine.connect() as connection:
        await connection.execute(sa.select(1))


async def _ping(client: Any) -> None:  # noqa: ANN401 - likewise
    await client.ping()
