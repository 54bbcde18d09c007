"""What is under test in one process: reads to judge, and what happens around writes.

A library is a module with a function `open(setting, engines)` that returns a `Subject`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from sqlalchemy import Engine, create_engine, make_url
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from .shop import Versions, Write


@dataclass(frozen=True, slots=True)
class Setting:
    """What a worker is told.

    Attributes:
        database: the URL.
        redis: the URL of a Valkey; empty where the subject has none.
        page: the path of a shared page; empty where it has none.
        lease: seconds for which values may be served without looking.
        mutant: the name of what is to be broken; empty for nothing.
        peer: the adapter of another library; empty for ours.
    """

    database: str
    redis: str = ""
    page: str = ""
    lease: float = 0.0
    mutant: str = ""
    peer: str = ""


class Read(NamedTuple):
    """One way to read.

    Attributes:
        name: what it is called in what is told of it.
        rows: for each key, the rows on the board that it reads.
        call: returns the versions of a key's rows, sync or to be awaited.
        weight: how often it is chosen.
    """

    name: str
    rows: Sequence[tuple[int, ...]]
    call: Callable[[int], Sequence[int] | Awaitable[Sequence[int]]]
    weight: float = 1.0


class Engines:
    """A sync and an async engine of one process."""

    def __init__(self, database: str) -> None:
        url = make_url(database)
        self.sync: Engine = create_engine(url, pool_size=6, max_overflow=4)
        self.asyncio: AsyncEngine = create_async_engine(
            url.set(drivername="postgresql+asyncpg"), pool_size=6, max_overflow=4
        )

    async def dispose(self) -> None:
        self.sync.dispose()
        await self.asyncio.dispose()


class Subject(Protocol):
    """A cache in one process.

    Attributes:
        reads: what threads read.
        reads_async: what tasks read.
        writes: what threads write.
        writes_async: what tasks write.
    """

    reads: Sequence[Read]
    reads_async: Sequence[Read]
    writes: Sequence[Write]
    writes_async: Sequence[Write]

    def written(self, versions: Versions) -> None:
        """Do what the library asks for after a commit, before that is acknowledged; from a thread."""

    async def written_async(self, versions: Versions) -> None:
        """Do what the library asks for after a commit, before that is acknowledged; from a task."""

    def hits(self) -> int:
        """Return how many reads were answered from the cache."""

    async def close(self) -> None:
        """Let go of everything."""
