"""cashews: a decorated function, and its key deleted after the commit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cashews import Cache
from sqlalchemy import text

if TYPE_CHECKING:
    from sqlalchemy import Engine
    from sqlalchemy.ext.asyncio import AsyncEngine


class Peer:
    """Reads and forgets versions of products in tasks."""

    def __init__(self, redis: str, _: Engine, engine: AsyncEngine) -> None:
        self._cache = cache = Cache()
        cache.setup(redis)

        @cache(ttl="1m", key="product:{number}")
        async def version(number: int) -> int:
            async with engine.connect() as connection:
                query = text("SELECT version FROM product WHERE id = :id")
                found: int = (await connection.scalars(query, {"id": number})).one()
                return found

        self.read_async = version

    async def forget_async(self, number: int) -> None:
        """Delete what is kept of a product."""
        await self._cache.delete(f"product:{number}")

    async def close(self) -> None:
        """Close its connections."""
        await self._cache.close()
