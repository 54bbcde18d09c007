"""Advanced Alchemy: repositories with a cache, which hear of commits by themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from advanced_alchemy.base import DefaultBase
from advanced_alchemy.cache import CacheConfig, CacheManager, setup_cache_listeners
from advanced_alchemy.repository import SQLAlchemyAsyncRepository, SQLAlchemySyncRepository
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, Session, mapped_column

if TYPE_CHECKING:
    from sqlalchemy import Engine
    from sqlalchemy.ext.asyncio import AsyncEngine


class Product(DefaultBase):
    __tablename__ = "product"
    id: Mapped[int] = mapped_column(primary_key=True)
    version: Mapped[int]


class Products(SQLAlchemySyncRepository[Product]):
    model_type = Product


class AsyncProducts(SQLAlchemyAsyncRepository[Product]):
    model_type = Product


class Peer:
    """Reads versions of products by repositories, and writes them so."""

    def __init__(self, redis: str, engine: Engine, async_engine: AsyncEngine) -> None:
        config = CacheConfig("dogpile.cache.redis", expiration_time=60, arguments={"url": redis})
        self._cache = CacheManager(config)
        self._engine = engine
        self._async_engine = async_engine
        setup_cache_listeners()

    def read(self, number: int) -> int:
        """Return a version, in a thread."""
        with Session(self._engine) as session:
            products = Products(session=session, cache_manager=self._cache, auto_expunge=True)
            return products.get(number).version

    async def read_async(self, number: int) -> int:
        """Return a version, in a task."""
        async with AsyncSession(self._async_engine) as session:
            products = AsyncProducts(session=session, cache_manager=self._cache, auto_expunge=True)
            return (await products.get(number)).version

    def write(self, session: Session, number: int) -> int:
        """Add one to a version, and return it."""
        products = Products(session=session, cache_manager=self._cache)
        product = products.get(number, use_cache=False, with_for_update=True)
        product.version += 1
        return products.update(product).version

    async def close(self) -> None:
        """Its connections end with the process."""
