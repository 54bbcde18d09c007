"""What observation adds to one request.

    python benchmarks/observe.py

The same FastAPI application, bare and with one observer each, answers the same request in one process: the
application is called as a server calls it, without sockets, one request after the other on one event loop.
The request is one that FastAPI is used for: a typed path and query, a dependency, a page of ten typed things.
The subjects of a group take turns in an order that is drawn for each round. A block is some hundred requests
of one subject, and ends when its observer has done what it put off (records that wait to be counted, lines
that wait to be written), so that all of its work, also that of threads, is within the block's processor time.
The garbage collector runs as ever; it starts each block with nothing to collect. What costs a fixed time is
a larger share of a smaller endpoint; one line tells of the smallest there is, and is not judged.

Of the applications with few and many routes the bare and the observed one share their routes, and take more
turns: what observation adds is a small difference of large times there, and routes that lie elsewhere in
memory differ by as much.

A line's ratio is the median of the rounds' ratios. The line `bare again` compares the bare application with
another of the same kind, so it tells how far this machine's noise goes.
"""

from __future__ import annotations

import asyncio
import gc
import random
import statistics
import sys
import tempfile
from pathlib import Path
from time import process_time
from typing import TYPE_CHECKING

import observed_apps as apps
from report import Case, progress, report

try:
    from uvloop import new_event_loop
except ImportError:
    from asyncio import new_event_loop

if TYPE_CHECKING:
    from observed_apps import Subject
    from starlette.types import Message, Scope

    from upshift.settings import Settings

REQUESTS = 200
ROUNDS, ROUTES_ROUNDS = 60, 240
WARMUP = 4
METRICS_BAR, LOG_BAR, STATEMENTS_BAR, ROUTES_BAR = 1.10, 1.25, 1.15, 1.2
FEW, MANY = 2, 200
HEADERS = [
    (b"host", b"shop.example"),
    (b"user-agent", b"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
    (b"accept", b"application/json"),
    (b"accept-language", b"en-GB,en;q=0.5"),
    (b"accept-encoding", b"gzip, deflate, br, zstd"),
    (b"x-forwarded-for", b"203.0.113.7"),
    (b"connection", b"keep-alive"),
]
PEERS = (
    "prometheus-fastapi-instrumentator",
    "starlette_exporter",
    "asgi-correlation-id + structlog",
    "OpenTelemetry FastAPI",
    "OpenTelemetry FastAPI, 5 % sampled",
)

Times = dict[str, list[float]]


def scope_of(path: str) -> Scope:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "server": ("127.0.0.1", 8000),
        "client": ("203.0.113.7", 50_000),
        "scheme": "http",
        "method": "GET",
        "root_path": "",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": HEADERS,
    }


async def receive() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}


async def send(message: Message) -> None:
    if message["type"] == "http.response.start":
        assert message["status"] == 200, message


async def serve(subject: Subject, requests: int) -> float:
    """Microseconds of processor time for each request."""
    app, scope = subject.app, scope_of(subject.path)
    gc.collect()
    started = process_time()
    for _ in range(requests):
        await app({**scope, "state": {}}, receive, send)
    subject.settle()
    return (process_time() - started) / requests * 1e6


async def take_turns(subjects: dict[str, Subject], rounds: int = ROUNDS) -> Times:
    """Microseconds a request of each subject, in each round."""
    gc.freeze()  # the applications themselves, which both have
    draw = random.Random(7)
    times: Times = {name: [] for name in subjects}
    for round_number in range(WARMUP + rounds):
        for name in draw.sample(list(subjects), len(subjects)):
            taken = await serve(subjects[name], REQUESTS)
            if round_number >= WARMUP:
                times[name].append(taken)
    return times


def compare(case: str, times: Times, ours: str, peer: str, bar: float | None) -> Case:
    ratio = statistics.median(a / b for a, b in zip(times[ours], times[peer], strict=True))
    return Case(case, statistics.median(times[ours]), statistics.median(times[peer]), peer, bar, "µs", ratio)


def added(times: Times, name: str, bare: str) -> float:
    return statistics.median(a - b for a, b in zip(times[name], times[bare], strict=True))


async def requests(folder: Path) -> list[Case]:
    bare = "bare FastAPI"
    bars = {"metrics + request id": METRICS_BAR, "with JSON access log": LOG_BAR}
    times = await take_turns(
        {
            bare: apps.bare(),
            "bare again": apps.bare(),
            "metrics + request id": apps.ours(apps.make_app(FEW), apps.default_settings()),
            "with JSON access log": apps.ours(
                apps.make_app(FEW), apps.access_log_settings(folder / "access")
            ),
            "everything on": apps.ours(apps.make_app(FEW), apps.everything_on(folder / "everything")),
            PEERS[0]: apps.prometheus_fastapi_instrumentator(),
            PEERS[1]: apps.starlette_exporter(),
            PEERS[2]: apps.correlation_id_and_structlog(folder / "structlog"),
            PEERS[3]: apps.opentelemetry(1.0),
            PEERS[4]: apps.opentelemetry(0.05),
        }
    )
    for name in ("access", "everything", "structlog"):
        with (folder / name).open("rb") as lines:
            assert sum(1 for _ in lines) >= (WARMUP + ROUNDS) * REQUESTS, f"{name}: not every line is there"
    everything = added(times, "everything on", bare)
    return [
        *(compare(name, times, name, bare, bars.get(name)) for name in times if name != bare),
        *(
            Case("added by everything on", everything, added(times, peer, bare), peer, 1.0, "µs")
            for peer in PEERS
        ),
    ]


async def smallest() -> list[Case]:
    times = await take_turns(
        {
            "smallest endpoint": apps.smallest(),
            "ours": apps.ours(apps.make_smallest_app(), apps.default_settings()),
        }
    )
    return [compare("metrics + request id", times, "ours", "smallest endpoint", None)]


async def statements(folder: Path) -> list[Case]:
    def observed(settings: Settings) -> Subject:
        engine = apps.make_engine()
        return apps.ours(apps.make_app(FEW, engine), settings, engine)

    bare, judged = "bare, 3 statements", "with 3 statements"
    subjects = {
        bare: apps.bare(apps.make_engine()),
        judged: observed(apps.default_settings()),
        "everything on, 3 statements": observed(apps.everything_on(folder / "statements")),
    }
    try:
        subjects["OpenTelemetry FastAPI + SQLAlchemy"] = apps.opentelemetry(1.0, apps.make_engine())
    except RuntimeError as refusal:
        progress(f"OpenTelemetry's SQLAlchemy instrumentor is left out: {refusal}")
    times = await take_turns(subjects)
    return [
        compare(name, times, name, bare, STATEMENTS_BAR if name == judged else None)
        for name in times
        if name != bare
    ]


async def routes() -> list[Case]:
    subjects = {}
    for count in (FEW, MANY):
        made = apps.make_app(count)
        subjects[f"bare {count}"] = apps.Subject(*made)
        subjects[f"ours {count}"] = apps.ours(apps.twin_of(made), apps.default_settings())
    times = await take_turns(subjects, ROUTES_ROUNDS)
    few, many = (added(times, f"ours {count}", f"bare {count}") for count in (FEW, MANY))
    return [Case(f"added at {MANY} routes", many, few, f"added at {FEW} routes", ROUTES_BAR, "µs")]


async def cases(folder: Path) -> list[Case]:
    progress(f"{ROUNDS} rounds of {REQUESTS} requests to each application")
    apps.send_spans_nowhere(folder)
    return [*await requests(folder), *await smallest(), *await statements(folder), *await routes()]


def main() -> int:
    with tempfile.TemporaryDirectory() as folder, asyncio.Runner(loop_factory=new_event_loop) as runner:
        measured = runner.run(cases(Path(folder)))
    packages = (
        "fastapi", "starlette", "sqlalchemy", "prometheus-fastapi-instrumentator", "starlette-exporter",
        "asgi-correlation-id", "structlog", "opentelemetry-instrumentation-fastapi",
    )  # fmt: skip
    return report("observe", measured, packages)


if __name__ == "__main__":
    sys.exit(main())
