"""A stored response beside an endpoint that returns a constant, and beside fastapi-cache2's decorator.

    python benchmarks/responses.py

The same FastAPI application, in uvicorn, with and without something that stores its responses. Its endpoints
return what they have at hand: the smallest there is, as a coroutine and as a function, which FastAPI runs in
a thread; and a page of ten typed things, as lists are in real applications. Each subject is a process of its
own on one core; our load generator, in another process on the other core, keeps eight connections busy, and
the subjects take turns.

The figure is the processor time of the server for each request, in microseconds: its inverse is the requests
a second that one core serves. Requests a second as counted would tell of the generator too, which is busier
than the server where answers are stored, and of whatever else the machine does.

`stored` is the application with its responses stored and nothing else, as the peer is; these lines are
judged. `stored and observed` is all of Upshift, which records each request and counts it in its metrics as
well: what that costs has a benchmark of its own (`observe`), and beside a stored response it is much; these
lines tell, and do not judge. A ratio is the median of the rounds'.
"""

from __future__ import annotations

import json
import os
import socket
import statistics
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import psutil
from pydantic import BaseModel
from report import Case, progress, report

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fastapi import FastAPI
    from starlette.types import ASGIApp

CONNECTIONS = 8
ROUNDS = 9
SECONDS = 0.6
CONSTANT_BAR, PEER_BAR = 1 / 3, 1 / 5
PATHS = {"the smallest": "/smallest", "the smallest, def": "/smallest-def", "a page of ten": "/page"}
PEER = "fastapi-cache2"


class Thing(BaseModel):
    id: int
    name: str
    price: float
    tags: list[str]


THINGS = [Thing(id=n, name=f"Thing {n}", price=n * 1.5, tags=["new", "sale"]) for n in range(10)]


def make_app(store: Callable[..., Callable[..., object]] | None = None) -> FastAPI:
    """An application whose endpoints are decorated by `store`, where that is given."""
    from fastapi import FastAPI

    async def smallest() -> dict[str, str]:
        return {"message": "Hello"}

    def smallest_def() -> dict[str, str]:
        return {"message": "Hello"}

    async def page() -> list[Thing]:
        return THINGS

    app = FastAPI()
    for path, endpoint in zip(PATHS.values(), (smallest, smallest_def, page), strict=True):
        app.get(path)(endpoint if store is None else store(expire=300)(endpoint))
    return app


def constant() -> ASGIApp:
    return make_app()


def observed() -> ASGIApp:
    from upshift import Cache, Upshift

    upshift = Upshift(make_app(), cache=Cache())
    upshift.cache.responses("*", ttl="5m")
    return upshift


def stored() -> ASGIApp:
    from upshift import Cache

    cache = Cache()
    cache.responses("*", ttl="5m")
    return cache.responses.around(make_app())


def fastapi_cache() -> ASGIApp:
    from fastapi_cache import FastAPICache
    from fastapi_cache.backends.inmemory import InMemoryBackend
    from fastapi_cache.decorator import cache

    FastAPICache.init(InMemoryBackend())
    return make_app(cache)


SUBJECTS: dict[str, Callable[[], ASGIApp]] = {
    "a constant": constant,
    "stored": stored,
    "stored and observed": observed,
    PEER: fastapi_cache,
}


def serve(name: str) -> None:
    """Serve a subject on a free port, which is printed first."""
    import uvicorn

    pin(0)
    listening = socket.create_server(("127.0.0.1", 0), backlog=2048)
    print(listening.getsockname()[1], flush=True)
    config = uvicorn.Config(
        SUBJECTS[name](), log_level="warning", access_log=False, loop="uvloop", http="httptools"
    )
    uvicorn.Server(config).run([listening])


def ask(url: str) -> None:
    """Ask as fast as the server answers, and print how many answers came."""
    from upshift.load import ClosedPlan, run

    pin(1)
    report = run(url, ClosedPlan(connections=CONNECTIONS, seconds=SECONDS))
    if report.errors:
        sys.exit(f"{url}: {report.errors}")
    print(json.dumps(report.ok), flush=True)


def pin(core: int) -> None:
    """Keep client and server off each other's core, where that can be said."""
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[core % len(cores)]})


@contextmanager
def serving(name: str) -> Iterator[tuple[psutil.Process, str]]:
    """A subject in a process of its own, with its URL."""
    command = [sys.executable, __file__, "serve", name]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield psutil.Process(server.pid), f"http://127.0.0.1:{int(server.stdout.readline())}"
        finally:
            server.terminate()


def cpu_per_request(server: psutil.Process, url: str) -> float:
    """Microseconds of the server's processor time for each request."""
    before = sum(server.cpu_times()[:2])
    asked = subprocess.run([sys.executable, __file__, "ask", url], stdout=subprocess.PIPE, check=True)
    return (sum(server.cpu_times()[:2]) - before) / json.loads(asked.stdout) * 1e6


def measure() -> dict[str, dict[str, list[float]]]:
    """Microseconds a request in each round, by endpoint and subject."""
    taken: dict[str, dict[str, list[float]]] = {each: {name: [] for name in SUBJECTS} for each in PATHS}
    with ExitStack() as stack:
        servers = {name: stack.enter_context(serving(name)) for name in SUBJECTS}
        for number in range(-1, ROUNDS):  # the first warms up
            for endpoint, path in PATHS.items():
                for name, (server, url) in servers.items():
                    microseconds = cpu_per_request(server, url + path)
                    if number >= 0:
                        taken[endpoint][name].append(microseconds)
                        progress(f"round {number + 1} of {ROUNDS}: {endpoint}, {name}: {microseconds:.1f} µs")
    return taken


def compare(endpoint: str, times: dict[str, list[float]], ours: str, peer: str, bar: float | None) -> Case:
    ratio = statistics.median(a / b for a, b in zip(times[ours], times[peer], strict=True))
    medians = [round(statistics.median(times[each]), 1) for each in (ours, peer)]
    return Case(f"{endpoint}, {ours}", *medians, peer, bar, "µs of server CPU", ratio)


def main() -> int:
    cases = []
    for endpoint, times in measure().items():
        cases += [
            compare(endpoint, times, "stored", "a constant", CONSTANT_BAR),
            compare(endpoint, times, "stored", PEER, PEER_BAR),
            compare(endpoint, times, "stored and observed", "a constant", None),
            compare(endpoint, times, "stored and observed", PEER, None),
        ]
    return report("responses", cases, ("fastapi", "starlette", "uvicorn", "httptools", "uvloop", PEER))


if __name__ == "__main__":
    roles = {"serve": serve, "ask": ask}
    sys.exit(roles[sys.argv[1]](sys.argv[2]) if len(sys.argv) > 1 else main())
