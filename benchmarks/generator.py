"""The load generator beside Locust and httpx: how much it sends per CPU second, and whether it sees a stall.

    python benchmarks/generator.py

Speed: 32 connections ask one small server as fast as they can (closed model). Each sample is a fresh client
process on a core of its own where there are two; the clients take turns, and the median round counts. The
figure is requests per second of the client's own CPU time: how fast the server answers does not matter.

Truth: the server's loop freezes for 0.5 s in every 2.5 s, as a blocking call would freeze it, and logs when.
What a request due at each moment would have waited is computed from that log alone; the 90th percentile of it
is what a generator should report.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from contextlib import contextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CONNECTIONS = 32
ROUNDS = 5
WARMUP_SECONDS = 0.3
SECONDS = 1.5

STALL_EVERY = 2.5
STALL_SECONDS = 0.5
STALL_RATE = 200.0
STALL_RUN_SECONDS = 4 * STALL_EVERY  # whole periods, so that it does not matter where the run begins

LOCUST_BAR = 8.0
HTTPX_BAR = 50.0
TRUTH_BAR = 1.07

BODY = b'{"id":1,"name":"Lavender"}'
ANSWER = (
    b"HTTP/1.1 200 OK\r\ndate: Sun, 22 Nov 2026 12:00:00 GMT\r\nserver: upshift-benchmark\r\n"
    b"content-length: %d\r\ncontent-type: application/json\r\n\r\n%b" % (len(BODY), BODY)
)


# The server, and the clients that take turns; each runs in a process of its own and prints JSON.


def serve(stall: str) -> None:
    """Answer on a free port, printing it first, and then each stall as it ends."""
    import httptools
    import uvloop

    class Answering(asyncio.Protocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            self.transport = transport
            self.parser = httptools.HttpRequestParser(self)

        def data_received(self, data: bytes) -> None:
            self.parser.feed_data(data)

        def on_message_complete(self) -> None:
            self.transport.write(ANSWER)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Answering, "127.0.0.1", 0, backlog=2048)
        show(server.sockets[0].getsockname()[1])
        started = time.monotonic()
        periods = 0
        while True:
            await asyncio.sleep(started + periods * STALL_EVERY - time.monotonic())
            periods += 1
            if stall == "stalling":
                begin = time.monotonic()
                time.sleep(STALL_SECONDS)  # noqa: ASYNC251 - the stall that is measured
                show([begin, time.monotonic()])

    pin(0)
    uvloop.run(main())


def ours_closed(url: str) -> None:
    from upshift.load import ClosedPlan, run

    pin(1)
    report = run(url, ClosedPlan(connections=CONNECTIONS, seconds=SECONDS, warmup_seconds=WARMUP_SECONDS))
    show({"requests": report.ok, "cpu_seconds": report.cpu_seconds})


def ours_open(url: str) -> None:
    from upshift.load import OpenPlan, run

    report = run(url, OpenPlan(rate=STALL_RATE, seconds=STALL_RUN_SECONDS))
    assert report.latency is not None
    show({"requests": report.ok, "p90": report.latency.p90, "lag_p99": report.lag_p99})


def locust_closed(url: str) -> None:
    pin(1)
    show(_locust(url, rate=None, warmup_seconds=WARMUP_SECONDS + 0.5, seconds=SECONDS))


def locust_at_rate(url: str) -> None:
    show(_locust(url, rate=STALL_RATE, warmup_seconds=0.5, seconds=STALL_RUN_SECONDS))


def _locust(url: str, rate: float | None, warmup_seconds: float, seconds: float) -> dict[str, float]:
    import gevent
    from locust import FastHttpUser, constant, constant_throughput, task
    from locust.env import Environment

    class User(FastHttpUser):
        host = url
        wait_time = constant(0) if rate is None else constant_throughput(rate / CONNECTIONS)

        @task
        def ask(self) -> None:
            self.client.get("/")

    environment = Environment(user_classes=[User])
    runner = environment.create_local_runner()
    runner.start(CONNECTIONS, spawn_rate=100)
    gevent.sleep(warmup_seconds)
    environment.stats.reset_all()
    cpu = time.process_time()
    gevent.sleep(seconds)
    cpu = time.process_time() - cpu
    total = environment.stats.total
    measured = {
        "requests": total.num_requests - total.num_failures,
        "cpu_seconds": cpu,
        "p90": total.get_response_time_percentile(0.9) / 1000,
    }
    runner.quit()
    return measured


def httpx_closed(url: str) -> None:
    """A client for each connection: the work of one pool for all grows with the square of their number."""
    import httpx
    import uvloop

    async def main() -> dict[str, float]:
        answered = 0
        tls = httpx.create_ssl_context()

        async def ask() -> None:
            nonlocal answered
            async with httpx.AsyncClient(verify=tls) as client:
                while True:
                    answer = await client.get(url)
                    answered += answer.status_code == 200

        workers = [asyncio.create_task(ask()) for _ in range(CONNECTIONS)]
        await asyncio.sleep(WARMUP_SECONDS + 0.5)
        before, cpu = answered, time.process_time()
        await asyncio.sleep(SECONDS)
        measured = {"requests": answered - before, "cpu_seconds": time.process_time() - cpu}
        for worker in workers:
            worker.cancel()  # one that failed before stays failed
        for outcome in await asyncio.gather(*workers, return_exceptions=True):
            if isinstance(outcome, Exception):
                raise outcome
        return measured

    pin(1)
    show(uvloop.run(main()))


ROLES: dict[str, Callable[[str], None]] = {
    role.__name__: role
    for role in (serve, ours_closed, ours_open, locust_closed, locust_at_rate, httpx_closed)
}


def pin(core: int) -> None:
    """Keep client and server off each other's core, where that can be said."""
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[core % len(cores)]})


def show(value: object) -> None:
    print(json.dumps(value), flush=True)


# The benchmark.


@contextmanager
def running(role: str, argument: str) -> Iterator[subprocess.Popen[str]]:
    """A process of this script, ended with the block."""
    with subprocess.Popen(
        [sys.executable, __file__, role, argument], stdout=subprocess.PIPE, text=True
    ) as child:
        try:
            yield child
        finally:
            child.terminate()


def finish(child: subprocess.Popen[str]) -> dict[str, float]:
    """Wait for a client, and return what it measured."""
    output, _ = child.communicate(timeout=60)
    measured: dict[str, float] = json.loads(output.splitlines()[-1])
    if child.returncode or not measured["requests"]:
        sys.exit(f"{child.args} sent nothing: {output}")
    return measured


def url_of(server: subprocess.Popen[str]) -> str:
    assert server.stdout is not None
    return f"http://127.0.0.1:{json.loads(server.stdout.readline())}"


def measure_speed() -> dict[str, float]:
    """Requests per CPU second of each client: the median of interleaved rounds."""
    clients = ["ours_closed", "locust_closed", "httpx_closed"]
    samples: dict[str, list[float]] = {client: [] for client in clients}
    with running("serve", "steady") as server:
        url = url_of(server)
        for number in range(ROUNDS):
            turn = number % len(clients)
            for client in clients[turn:] + clients[:turn]:
                with running(client, url) as child:
                    measured = finish(child)
                speed = measured["requests"] / measured["cpu_seconds"]
                samples[client].append(speed)
                progress(f"round {number + 1} of {ROUNDS}: {client} {speed:,.0f} requests per CPU second")
    return {client: round(statistics.median(speeds)) for client, speeds in samples.items()}


def measure_stalls() -> tuple[float, float, float]:
    """The 90th percentile that we report, that Locust reports, and the true one, in seconds."""
    progress(f"a server that stalls, {STALL_RUN_SECONDS:.0f} s")
    with running("serve", "stalling") as ours_server, running("serve", "stalling") as locust_server:
        ours_url, locust_url = url_of(ours_server), url_of(locust_server)
        with running("ours_open", ours_url) as ours, running("locust_at_rate", locust_url) as locust:
            reported, locusts = finish(ours), finish(locust)
        ours_server.terminate()
        log, _ = ours_server.communicate()
    progress(f"our own lag was {reported['lag_p99'] * 1000:.2f} ms (p99)")
    return reported["p90"], locusts["p90"], true_p90([json.loads(line) for line in log.splitlines()])


def true_p90(stalls: list[list[float]]) -> float:
    """What 90 % of the requests due at any moment would wait at most, had each other answer taken no time."""
    begin = stalls[0][0]
    periods = len(stalls) - 1  # whole ones: from the begin of the first stall to the begin of the last
    moments = [begin + step / 1_000 for step in range(round((stalls[periods][0] - begin) * 1_000))]
    waits = sorted(
        next((end - moment for start, end in stalls if start <= moment < end), 0.0) for moment in moments
    )
    return waits[-(-len(waits) * 9 // 10) - 1]


def progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


class Case(NamedTuple):
    """A line of the result; one without a bar compares and does not judge."""

    case: str
    ours: float
    peer: float
    peer_name: str
    unit: str
    bar: float | None
    ok: bool


def cases(speed: dict[str, float], ours_p90: float, locust_p90: float, truth: float) -> list[Case]:
    ours, locust, httpx = speed["ours_closed"], speed["locust_closed"], speed["httpx_closed"]
    within = 1 / TRUTH_BAR <= ours_p90 / truth <= TRUTH_BAR
    rate, p90 = "requests per CPU second", "p90 of a server that stalls"
    return [
        Case(rate, ours, locust, "Locust FastHttpUser", "1/s", LOCUST_BAR, ours / locust >= LOCUST_BAR),
        Case(rate, ours, httpx, "httpx.AsyncClient", "1/s", HTTPX_BAR, ours / httpx >= HTTPX_BAR),
        Case(p90, ours_p90, truth, "the truth, from the server's log", "s", TRUTH_BAR, within),
        Case(p90, ours_p90, locust_p90, "Locust FastHttpUser", "s", bar=None, ok=True),
    ]


def main() -> None:
    results = cases(measure_speed(), *measure_stalls())
    versions = {name: version(name) for name in ("uvloop", "httptools", "locust", "httpx")}
    versions["python"] = platform.python_version()
    for each in results:
        ratio = round(each.ours / each.peer, 3)
        show({"bench": "generator"} | each._asdict() | {"ratio": ratio, "versions": versions})
    sys.exit(0 if all(each.ok for each in results) else 1)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        ROLES[sys.argv[1]](sys.argv[2])
    else:
        main()
