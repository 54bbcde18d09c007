"""Other libraries under test, each with what it can: reads of products by key, and writes that it hears of.

A library is given the best of it: a transaction counts as acknowledged only when its invalidation is done.
"""

from __future__ import annotations

import importlib
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any

from sqlalchemy.orm import Session

from .ours import single
from .shop import Product, Versions, by_orm, row_of, some_key, written
from .subject import Engines, Read, Setting


class Peer:
    """A library, by its adapter: a module in `benchmarks/cache_peers`."""

    def __init__(self, setting: Setting, engines: Engines) -> None:
        adapter = importlib.import_module(f"benchmarks.cache_peers.{setting.peer}")
        self._peer = peer = adapter.Peer(setting.redis, engines.sync, engines.asyncio)
        self._forget: Callable[[int], None] | None = getattr(peer, "forget", None)
        self._forget_async: Callable[[int], Awaitable[None]] | None = getattr(peer, "forget_async", None)
        self.reads = [Read("product", single(Product), self._read)] if hasattr(peer, "read") else []
        self.reads_async = (
            [Read("product_async", single(Product), self._read_async)] if hasattr(peer, "read_async") else []
        )
        write = self._write if hasattr(peer, "write") else by_orm
        self.writes = (write,) if self.reads else ()
        self.writes_async = (write,) if self.reads_async else ()

    def written(self, versions: Versions) -> None:
        if self._forget is not None:
            for row in versions:
                self._forget(row - row_of(Product, 0))

    async def written_async(self, versions: Versions) -> None:
        if self._forget_async is not None:
            for row in versions:
                await self._forget_async(row - row_of(Product, 0))

    def hits(self) -> int:
        return 0  # they do not tell

    async def close(self) -> None:
        await self._peer.close()

    def _read(self, key: int) -> list[int]:
        return [self._peer.read(key)]

    async def _read_async(self, key: int) -> list[int]:
        return [await self._peer.read_async(key)]

    def _write(self, session: Session, random: Random) -> Versions:
        number = some_key(random)
        return written(Product, number, self._peer.write(session, number))


open: Any = Peer  # noqa: A001 - the name that the worker asks for
