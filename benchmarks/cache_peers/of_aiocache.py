"""aiocache: a decorated function, and its key deleted after the commit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from aiocache import Cache, cached
from aiocache.serializers import JsonSerializer
from sqlalchemy import text

if TYPE_CHECKING:
    from sqlalchemy import Engine
    from sqlalchemy.ext.asyncio import AsyncEngine


class Peer:
    """Reads and forgets versions of products in tasks."""

    def __init__(self, redis: str, _: Engine, engine: AsyncEngine) -> None:
        place: dict[str, Any] = {"endpoint": urlsplit(redis).hostname, "port": urlsplit(redis).port}

        @cached(
            ttl=60,
            cache=Cache.REDIS,
            serializer=JsonSerializer(),
            key_builder=lambda _, number: f"product:{number}",
            **place,
        )
        async def version(number: int) -> int:
            async with engine.connect() as connection:
                query = text("SELECT version FROM product WHERE id = :id")
                found: int = (await connection.scalars(query, {"id": number})).one()
                return found

        self.read_async = version

    async def forget_async(self, number: int) -> None:
        """Delete what is kept of a product."""
        await self.read_async.cache.delete(f"product:{number}")

    async def close(self) -> None:
        """Close its connections."""
        await self.read_async.cache.close()
