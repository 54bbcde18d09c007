"""Upshift: decorated functions, and nothing to do after a commit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

from upshift import Cache

if TYPE_CHECKING:
    from sqlalchemy import Engine
    from sqlalchemy.ext.asyncio import AsyncEngine

QUERY = text("SELECT version FROM product WHERE id = :id")


class Peer:
    """Reads versions of products in threads and tasks."""

    def __init__(self, redis: str, engine: Engine, async_engine: AsyncEngine) -> None:
        self._cache = cache = Cache(redis)
        cache.watch([engine, async_engine])

        @cache.cached(ttl="1m", namespace="product")
        def version(number: int) -> int:
            with engine.connect() as connection:
                found: int = connection.scalars(QUERY, {"id": number}).one()
                return found

        @cache.cached(ttl="1m", namespace="product_async")
        async def version_async(number: int) -> int:
            async with async_engine.connect() as connection:
                found: int = (await connection.scalars(QUERY, {"id": number})).one()
                return found

        self.read = version
        self.read_async = version_async

    async def close(self) -> None:
        """Close its connections."""
        self._cache.close()
