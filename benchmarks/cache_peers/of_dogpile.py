"""dogpile.cache: a decorated function with locks in Redis, invalidated after the commit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dogpile.cache import make_region
from sqlalchemy import text

if TYPE_CHECKING:
    from sqlalchemy import Engine
    from sqlalchemy.ext.asyncio import AsyncEngine


class Peer:
    """Reads and forgets versions of products in threads."""

    def __init__(self, redis: str, engine: Engine, _: AsyncEngine) -> None:
        region = make_region().configure(
            "dogpile.cache.redis",
            expiration_time=60,
            arguments={
                "url": redis,
                "distributed_lock": True,
                "thread_local_lock": False,
                "lock_timeout": 5,
            },
        )

        @region.cache_on_arguments()
        def version(number: int) -> int:
            with engine.connect() as connection:
                query = text("SELECT version FROM product WHERE id = :id")
                found: int = connection.scalars(query, {"id": number}).one()
                return found

        self.read = version

    def forget(self, number: int) -> None:
        """Delete what is kept of a product."""
        self.read.invalidate(number)

    async def close(self) -> None:
        """Its connections end with the process."""
