"""The automatic size of a pool beside the best fixed one, from a wrong start, and with a slower server.

    python benchmarks/pool.py

Fifty tasks book amounts on embedded PostgreSQL through asyncpg, each in a transaction of its own that updates
one row that all want, one of ten, and one of ten thousand. The row decides: a few connections keep it busy,
and fifty wait for it inside the server, each to be woken and to look again. Then the server gets slower: each
booking first waits 20 ms, as for a slow disk, and now it takes many connections to keep the row busy.

Upshift sizes two pools, one that starts with one connection and one that starts with fifty; each has 24 s of
load, and 24 s again after the change. Then pools of the sizes that it has come to and of others, without
Upshift, take turns on the same server. The best fixed size is the one that was best in every other round; the
ratio is the median over the remaining rounds, so that the peer does not win by its luck.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import sys
from contextlib import asynccontextmanager
from time import perf_counter
from typing import TYPE_CHECKING

from report import Case, progress, report
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from starlette.applications import Starlette

from upshift import Upshift
from upshift.diagnose import lifespan
from upshift.testing.servers import postgres

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

TASKS = 50
MOST = 50
SIZES = (1, 2, 4, 8, 16, 32, 50)
ADAPTING = 24
ROUNDS = 10
SECONDS, WARMUP = 0.22, 0.06
BAR = 1 / 0.95
"""The best fixed size may be so much better."""

SLOW_MS = 20

SCHEMA = (
    "CREATE TABLE branch (id int PRIMARY KEY, cents bigint NOT NULL) WITH (fillfactor = 10)",
    "CREATE TABLE teller (id int PRIMARY KEY, cents bigint NOT NULL) WITH (fillfactor = 10)",
    "CREATE TABLE account (id int PRIMARY KEY, cents bigint NOT NULL) WITH (fillfactor = 50)",
    "INSERT INTO branch VALUES (0, 0)",
    "INSERT INTO teller SELECT i, 0 FROM generate_series(0, 9) i",
    "INSERT INTO account SELECT i, 0 FROM generate_series(0, 9999) i",
    """
    CREATE FUNCTION book(teller_id int, account_id int, amount int, wait_ms int) RETURNS void
    LANGUAGE plpgsql AS $$ BEGIN
        IF wait_ms > 0 THEN PERFORM pg_sleep(wait_ms / 1000.0); END IF;
        UPDATE account SET cents = cents + amount WHERE id = account_id;
        UPDATE teller SET cents = cents + amount WHERE id = teller_id;
        UPDATE branch SET cents = cents + amount WHERE id = 0;
    END $$
    """,
)
BOOK = text("SELECT book(:teller, :account, 1, :wait_ms)")


class Load:
    """Tasks that book on an engine, one booking after the other."""

    def __init__(self) -> None:
        self.bookings = 0
        self.wait_ms = 0

    @asynccontextmanager
    async def on(self, engine: AsyncEngine) -> AsyncIterator[None]:
        """Keep the tasks busy for the length of a block."""
        ended = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            for _ in range(TASKS):
                group.create_task(self._book(engine, ended))
            yield
            ended.set()

    async def _book(self, engine: AsyncEngine, ended: asyncio.Event) -> None:
        while not ended.is_set():
            parameters = {
                "teller": random.randrange(10),
                "account": random.randrange(10_000),
                "wait_ms": self.wait_ms,
            }
            async with engine.begin() as connection:
                await connection.execute(BOOK, parameters)
            self.bookings += 1

    async def rate(self, engine: AsyncEngine, seconds: float) -> float:
        """Bookings in a second, once all tasks are under way."""
        async with self.on(engine):
            await asyncio.sleep(WARMUP + self.wait_ms / 1e3)
            started, before = perf_counter(), self.bookings
            await asyncio.sleep(seconds)
            return (self.bookings - before) / (perf_counter() - started)


async def open_all(engine: AsyncEngine, count: int) -> None:
    connections = [await engine.connect() for _ in range(count)]
    for connection in connections:
        await connection.close()


def fixed(url: str, size: int) -> AsyncEngine:
    return create_async_engine(url, pool_size=size, max_overflow=0)


async def adapt(load: Load, engine: AsyncEngine, up: Upshift) -> int:
    """Give the pool of Upshift its time, and return the size that it has come to."""
    async with load.on(engine):
        for _ in range(ADAPTING // 4):
            await asyncio.sleep(4)
            progress(f"  {up.pools()[0].maximum} connections")
    return up.pools()[0].maximum or 0


async def compare(load: Load, url: str, sizes: set[int]) -> dict[int, list[float]]:
    """Let pools of all sizes take turns; milliseconds for each booking by size, round by round."""
    engines = {size: fixed(url, size) for size in sizes}
    for size, engine in engines.items():
        await open_all(engine, size)
    times: dict[int, list[float]] = {size: [] for size in sizes}
    for _ in range(ROUNDS):
        for size in random.sample(sorted(sizes), len(sizes)):
            times[size].append(1e3 / await load.rate(engines[size], SECONDS))
    for engine in engines.values():
        await engine.dispose()
    return times


def judge(case: str, times: dict[int, list[float]], chosen: int) -> Case:
    """Compare the size that was chosen with the best of the others."""
    best = min(SIZES, key=lambda size: statistics.median(times[size][::2]))
    ours, peer = times[chosen][1::2], times[best][1::2]
    ratio = statistics.median(our / its for our, its in zip(ours, peer, strict=True))
    name = f"the best fixed size, {best}"
    return Case(case, statistics.median(ours), statistics.median(peer), name, BAR, "ms per booking", ratio)


async def measure(url: str) -> list[Case]:
    load = Load()
    starts = {"too small": 1, "too large": MOST}
    results: list[Case] = []
    chosen: dict[str, int] = {}
    engines = {name: fixed(url, size) for name, size in starts.items()}
    apps = {name: Starlette() for name in starts}
    ups = {
        name: Upshift(apps[name], engine=engine, pool_sizing="auto", pool_min_size=1, pool_max_size=MOST)
        for name, engine in engines.items()
    }
    async with lifespan(apps["too small"]), lifespan(apps["too large"]):
        for phase, wait_ms in (("contended", 0), (f"slower by {SLOW_MS} ms", SLOW_MS)):
            load.wait_ms = wait_ms
            for name in starts:
                progress(f"{phase}: Upshift sizes a pool that was {name}")
                chosen[name] = await adapt(load, engines[name], ups[name])
            progress(f"{phase}: it chose {chosen}; fixed sizes take turns")
            times = await compare(load, url, {*SIZES, *chosen.values()})
            rates = {size: 1e3 / statistics.median(times[size]) for size in sorted(times)}
            progress("  " + ", ".join(f"{size}: {rate:.0f}/s" for size, rate in rates.items()))
            for name, size in chosen.items():
                results.append(judge(f"{phase}, from a pool {name}: {size} connections", times, size))
    for name in starts:
        ups[name].close()
        await engines[name].dispose()
    return results


def main() -> int:
    with postgres(settings={"max_connections": "400"}) as server:
        url = server.url(driver="asyncpg")
        asyncio.run(prepare(url))
        return report("pool", asyncio.run(measure(url)), ("sqlalchemy", "asyncpg"))


async def prepare(url: str) -> None:
    engine = create_async_engine(url)
    async with engine.begin() as connection:
        for statement in SCHEMA:
            await connection.exec_driver_sql(statement)
    await engine.dispose()


if __name__ == "__main__":
    sys.exit(main())
