"""What a million hostile requests leave in memory.

    python benchmarks/memory.py

A million requests to 10^5 different paths, with methods, ids, traces and headers that are new, binary or a
megabyte long, and an application that repeats some of them in its answers and raises exceptions of as many
classes. Everything is observed, logged and traced. `ours` is what the process has grown by after a warm-up of
some thousand, and `peer` the bar that the design sets; then the number of series, which must not change; and
the worst error of a quantile beside the exact one, over as many durations of four kinds.
"""

from __future__ import annotations

import asyncio
import gc
import math
import os
import random
import sys
import tempfile
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
from fastapi import FastAPI, Request
from report import Case, progress, report
from starlette.responses import Response
from starlette.routing import Mount

from upshift import Upshift
from upshift.record import Histogram
from upshift.settings import LogSettings, RecordSettings, Settings, TelemetrySettings, TracingSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from starlette.types import Message, Scope

REQUESTS = 1_000_000
PATHS = 100_000
WARMUP = 2_000
GROWTH_BAR = 32.0
QUANTILE_BAR = 0.02
MEGABYTE = 1_000_000
NAMES = (b"accept", b"accept-encoding", b"content-type", b"traceparent", b"x-request-id")


# Drawn from, not taken in turn: every kind of value meets every header, method and path.
LONG = [bytes([letter]) * MEGABYTE for letter in b"abcdefgh"]
VALUES: tuple[Callable[[random.Random], bytes], ...] = (
    lambda draw: b"%032x" % draw.getrandbits(128),
    lambda draw: b"00-%032x-%016x-%02x" % (draw.getrandbits(128), draw.getrandbits(64), draw.getrandbits(8)),
    lambda draw: b"application/x-%d; q=%d" % (draw.getrandbits(64), draw.getrandbits(64)),
    lambda draw: draw.randbytes(60),
    lambda draw: draw.choice(LONG),
    # One that no table can have seen; not too often, as it takes longer to make than to answer.
    lambda draw: (
        b"%d" % draw.getrandbits(64)
        + draw.choice(LONG)[: draw.choice((100, 300, 500, 3_000, 10_000, MEGABYTE))]
    ),
    lambda draw: b"\r\n\0" + draw.randbytes(2_000),
)
METHODS: tuple[Callable[[random.Random], str], ...] = (
    lambda _: "GET",
    lambda _: "POST",
    lambda draw: f"BREW{draw.getrandbits(64)}",
    lambda draw: f"{draw.getrandbits(64)}" + "X" * 60_000,
)
PLACES = ("/orders/", "/nowhere/", "/tenants/t", "/fails/", "/" + "long" * 2_000 + "/", "/\ud800\x00/")


def hostile_requests(draw: random.Random) -> Iterator[Scope]:
    while True:
        place = draw.choice(PLACES)
        path = f"{place}{draw.randrange(PATHS)}"
        yield {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "server": ("127.0.0.1", 8000),
            "client": ("203.0.113.7", 50_000),
            "scheme": "http",
            "method": draw.choice(METHODS)(draw),
            "root_path": "",
            "path": path + "/cart" if place.startswith("/tenants") else path,
            "query_string": b"",
            "headers": [(name, draw.choice(VALUES)(draw)) for name in NAMES],
            "state": {},
        }


def make_app() -> FastAPI:
    inner = FastAPI()
    app = FastAPI(routes=[Mount("/tenants/{tenant}", inner)])

    @app.api_route("/orders/{order_id}", methods=["GET", "POST"])
    async def order(request: Request) -> Response:
        # What is repeated here was checked by nobody.
        repeated = {request.headers["content-type"], request.headers["accept"]}
        return Response(
            b"ok", headers=dict(zip(("content-type", "content-encoding"), repeated, strict=False))
        )

    @app.get("/fails/{number}")
    async def fails(number: int) -> None:
        raise type(f"Error{number}", (Exception,), {})

    @inner.get("/cart")
    async def cart() -> str:
        return "empty"

    return app


async def receive() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}


async def send(message: Message) -> None:
    pass


async def answer(app: FastAPI, requests: Iterator[Scope]) -> None:
    for number, scope in enumerate(requests):
        with suppress(Exception):  # those of the application
            await app(scope, receive, send)
        if number % 100 == 0:
            await asyncio.sleep(0)  # timers and threads have their turn


def megabytes() -> float:
    gc.collect()
    return psutil.Process(os.getpid()).memory_info().rss / 1e6


async def growth(folder: Path) -> Iterator[Case]:
    app = make_app()
    upshift = Upshift(
        app,
        settings=Settings(
            record=RecordSettings(sample_rate=1.0),
            telemetry=TelemetrySettings(server_timing="always"),
            logs=LogSettings(
                log_format="json",
                log_file=str(folder / "log"),
                log_rotate_bytes=10_000_000,
                log_rotate_count=1,
            ),
            tracing=TracingSettings(tracing=True),
        ),
    )
    requests = hostile_requests(random.Random(7))
    await answer(app, islice(requests, WARMUP))
    upshift.observation()
    series, started = len(upshift.metrics.series()), megabytes()
    progress(f"{series} series, {started:.0f} MB after {WARMUP} requests")
    for tenth in range(1, 11):
        await answer(app, islice(requests, REQUESTS // 10))
        upshift.observation()
        progress(f"{len(upshift.metrics.series())} series, {megabytes() - started:+.1f} MB, {tenth}0 %")
    grown, series_now = megabytes() - started, len(upshift.metrics.series())
    upshift.close()
    name = f"{REQUESTS} requests to {PATHS} paths"
    return iter(
        [
            Case(f"growth in {name}", grown, GROWTH_BAR, "bar", 1.0, "MB"),
            Case(f"series after {name}", series_now, series, "after the warm-up", 1.0, "series"),
        ]
    )


def worst_error() -> float:
    """The largest relative error of a quantile, beside the exact one by nearest rank."""
    draw = random.Random(7)
    kinds: tuple[Callable[[], float], ...] = (
        lambda: draw.lognormvariate(-5, 1.5),
        lambda: draw.expovariate(100),
        lambda: draw.uniform(0.001, 0.002),
        lambda: draw.choice((0.001, 0.0015, 2.0)),
    )
    worst = 0.0
    for kind in kinds:
        histogram = Histogram()
        values = [kind() for _ in range(REQUESTS // len(kinds))]
        for value in values:
            histogram.add(value)
        values.sort()
        for q in (0.01, 0.1, 0.5, 0.9, 0.95, 0.99, 0.999):
            exact = values[math.ceil(q * len(values)) - 1]
            worst = max(worst, abs(histogram.quantile(q) - exact) / exact)
    return worst


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        cases = list(asyncio.run(growth(Path(folder))))
    cases.append(Case("worst error of a quantile", worst_error() * 100, QUANTILE_BAR * 100, "bar", 1.0, "%"))
    return report("memory", cases, ("fastapi", "starlette"))


if __name__ == "__main__":
    sys.exit(main())
