"""What callers notice of a Redis that hangs: threads that call a function, and clients of stored responses.

    python benchmarks/cache_outage.py

Valkey is stopped by SIGSTOP while eight callers go on, each asking for a key of its own, and doing the same
without the cache between two such calls. What is added is the 99th percentile of the cached calls less that
of the others, of the same seconds: until the circuit opens, and after. A call that fails ends the benchmark.
Functions that are awaited are measured in `cache_redis.py`.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import time
from time import perf_counter
from typing import TYPE_CHECKING, NamedTuple

from report import Case, progress, report
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from upshift import Cache
from upshift.testing.servers import valkey

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request
    from starlette.types import ASGIApp, Message

CALLERS = 8
LOAD_SECONDS = 0.002
QUIET, HUNG = 1.5, 2.0
"""Seconds before, and of the hang."""

UNTIL_OPEN_BAR, AFTER_BAR = 50.0, 1.0
"""Milliseconds."""


class Times(NamedTuple):
    """Seconds of calls during the hang: of those that are cached, and of those that are not."""

    cached: list[float]
    uncached: list[float]

    def added(self) -> float:
        """Return what is added to the 99th percentile, in milliseconds."""
        return (percentile(self.cached) - percentile(self.uncached)) * 1e3


class Outage:
    """One hang, with what was measured in it."""

    def __init__(self, cache: Cache) -> None:
        self.ends = perf_counter() + QUIET + HUNG
        self.hangs_at = perf_counter() + QUIET
        self.until_open = Times([], [])
        self.after = Times([], [])
        self._circuit = cache._shared._shared.remote.circuit  # type: ignore[union-attr]

    def timer(self, *, is_cached: bool) -> Callable[[], None]:
        """Begin to measure a call; what is returned is called at its end."""
        began, was_open = perf_counter(), self._circuit.is_open

        def end() -> None:
            if began > self.hangs_at:
                times = self.after if was_open else self.until_open
                (times.cached if is_cached else times.uncached).append(perf_counter() - began)

        return end


def percentile(values: list[float], share: float = 0.99) -> float:
    return sorted(values)[min(int(len(values) * share), len(values) - 1)]


def threads(cache: Cache, outage: Outage) -> None:
    def load(number: int) -> int:
        time.sleep(LOAD_SECONDS)
        return number

    kept, failed = cache.cached(namespace="load")(load), []

    def keep_calling(number: int) -> None:
        try:
            while perf_counter() < outage.ends:
                for is_cached, function in ((True, kept), (False, load)):
                    end = outage.timer(is_cached=is_cached)
                    assert function(number) == number
                    end()
        except BaseException as error:  # noqa: BLE001 - told below
            failed.append(error)

    callers = [threading.Thread(target=keep_calling, args=(number,)) for number in range(CALLERS)]
    for each in callers:
        each.start()
    for each in callers:
        each.join()
    if failed:
        raise failed[0]


async def load_page(request: Request) -> PlainTextResponse:
    await asyncio.sleep(LOAD_SECONDS)
    return PlainTextResponse(request.path_params["number"])


async def status_of(app: ASGIApp, path: str) -> int:
    told: list[int] = []

    async def receive() -> Message:
        return {"type": "http.request"}

    async def send(message: Message) -> None:
        told.append(message.get("status", 0))

    scope = {
        "type": "http", "http_version": "1.1", "method": "GET", "scheme": "http", "path": path,
        "raw_path": path.encode(), "query_string": b"", "root_path": "", "headers": [(b"host", b"shop")],
    }  # fmt: skip
    await app(scope, receive, send)
    return told[0]


def responses(cache: Cache, outage: Outage) -> None:
    app = Starlette(routes=[Route("/pages/{number}", load_page)])
    cache.responses("/*")
    stored = cache.responses.around(app)

    async def keep_asking(number: int) -> None:
        while perf_counter() < outage.ends:
            for is_cached, each in ((True, stored), (False, app)):
                end = outage.timer(is_cached=is_cached)
                assert await status_of(each, f"/pages/{number}") == 200
                end()

    async def all_of_them() -> None:
        await asyncio.gather(*(keep_asking(number) for number in range(CALLERS)))
        cache.close()
        await asyncio.sleep(0)

    asyncio.run(all_of_them())


def hung(name: str, call: Callable[[Cache, Outage], None]) -> list[Case]:
    """Stop a server under callers, and return what they noticed."""
    with valkey(listen="tcp") as server:
        cache = Cache(server.url)
        time.sleep(QUIET)
        outage = Outage(cache)
        stop = threading.Timer(QUIET, os.kill, (server.pid, signal.SIGSTOP))
        stop.start()
        try:
            call(cache, outage)
        finally:
            stop.join()
            os.kill(server.pid, signal.SIGCONT)
            cache.close()
    before, after = outage.until_open, outage.after
    progress(f"{name}: {len(before.cached)} calls until the circuit opened, {len(after.cached)} after")
    return [
        Case(f"{name}: added p99 until the circuit opens", round(before.added(), 3), UNTIL_OPEN_BAR,
             "the bar", 1.0, "ms"),
        Case(f"{name}: added p99 after it has", round(after.added(), 3), AFTER_BAR, "the bar", 1.0, "ms"),
    ]  # fmt: skip


def main() -> int:
    cases = hung("functions in threads", threads) + hung("stored responses", responses)
    return report("cache_outage", cases, ("upshift", "redis", "hiredis"))


if __name__ == "__main__":
    sys.exit(main())
