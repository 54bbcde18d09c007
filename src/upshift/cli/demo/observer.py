"""Observes an application under load in a process of its own, and tells what it saw.

It is a process because an application binds its database when it is imported, and the demo needs it on two.
The parent gives a `Job` on standard input and reads a `Seen` from the file that the job names.
"""

from __future__ import annotations

import asyncio
import gzip
import os
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import msgspec

from upshift.application import Upshift
from upshift.cli.advice import advise_on
from upshift.cli.boot import find_engines, load_application
from upshift.cli.demo.manifest import Manifest  # noqa: TC001 - msgspec reads it
from upshift.cli.progress import ProgressLine
from upshift.diagnose import Finding, diagnose, get
from upshift.errors import ApplicationLoadError
from upshift.load import ClosedPlan, Request, run
from upshift.settings import RecordSettings, Settings

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from upshift.record import Record
    from upshift.sql import IndexAdvice

ROUNDS_TO_LEARN = 2
"""Times that each request is sent where batching learns; counts are taken from the last round."""


class Job(msgspec.Struct, frozen=True):
    """What to observe.

    Attributes:
        manifest: the application.
        fixed: with batching and compression on.
        advise: look for indexes as well.
        answer: the file to write to.
    """

    manifest: Manifest
    fixed: bool
    advise: bool
    answer: str


class Counts(msgspec.Struct, frozen=True):
    """What one request of an endpoint asked of the database and sent, on average.

    Attributes:
        statements: SQL statements.
        most_statements: the most that any request sent.
        rows: rows fetched.
        bytes: bytes of the response's body as sent.
    """

    statements: float
    most_statements: int
    rows: float
    bytes: float


class Seen(msgspec.Struct, frozen=True):
    """What was seen.

    Attributes:
        findings: what the rules found.
        advice: the advised indexes, as `IndexAdvice.to_dict` gives them.
        counts: by endpoint.
        bodies: the answer to each path, decoded.
    """

    findings: tuple[Finding, ...]
    advice: tuple[dict[str, Any], ...]
    counts: dict[str, Counts]
    bodies: dict[str, str]


def observe(manifest: Manifest, database_url: str, *, fixed: bool, advise: bool = False) -> Seen:
    """Run the application on a database, load it, and return what was seen.

    Raises:
        ApplicationLoadError: it failed; the message has the last line of its output.
    """
    with TemporaryDirectory(prefix="upshift-demo-") as folder:
        answer = Path(folder) / "seen.json"
        job = Job(manifest, fixed, advise, str(answer))
        finished = subprocess.run(
            [sys.executable, "-c", "from upshift.cli.demo.observer import main; main()"],
            input=msgspec.json.encode(job),
            env={**os.environ, manifest.database_url_variable: database_url},
            stderr=subprocess.PIPE,
            check=False,
        )
        if finished.returncode != 0 or not answer.exists():
            lines = finished.stderr.decode("utf-8", "replace").strip().splitlines() or ["it said nothing"]
            raise ApplicationLoadError(f"{manifest.name} could not be observed: {lines[-1]}")
        return msgspec.json.decode(answer.read_bytes(), type=Seen)


def main() -> None:
    """Do the job given on standard input."""
    job = msgspec.json.decode(sys.stdin.buffer.read(), type=Job)
    app = load_application(job.manifest.app, job.manifest.app_dir)
    engines = find_engines()
    settings = Settings.from_environment({})
    settings = replace(
        settings,
        record=RecordSettings(ring_size=10_000, sample_rate=1.0),
        sql=replace(settings.sql, batching=job.fixed, keep_parameters=job.advise),
        traffic=replace(settings.traffic, compression=job.fixed),
    )
    observed = Upshift(app, engine=engines, settings=settings)
    paths = [path for endpoint in job.manifest.endpoint for path in endpoint.paths]
    progress = ProgressLine(sys.stdout)
    _load(observed, paths * (ROUNDS_TO_LEARN if job.fixed else 1), progress)
    observation = observed.observation()
    counts = _counts(job.manifest, observation.records)
    advice: tuple[IndexAdvice, ...] = ()
    if job.advise:
        advice, _ = advise_on(observation.statements, engines, on_progress=progress.show)
        observation = replace(observation, advice=advice)
    bodies = asyncio.run(_bodies(observed, paths))
    progress.clear()
    seen = Seen(diagnose(observation), tuple(each.to_dict() for each in advice), counts, bodies)
    Path(job.answer).write_bytes(msgspec.json.encode(seen))


def _load(app: ASGIApp, paths: list[str], progress: ProgressLine) -> None:
    """Serve the application over HTTP and ask for the paths in turn."""
    import uvicorn

    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", access_log=False))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        try:
            while not server.started and thread.is_alive():
                time.sleep(0.01)
            requests = [Request("GET", path, {"accept-encoding": "gzip"}) for path in paths]
            report = run(
                f"http://127.0.0.1:{port}",
                ClosedPlan(connections=2, count=len(paths)),
                requests,
                watch=lambda now: progress.show(f"{now.completed} of {len(paths)} requests answered"),
            )
        finally:
            server.should_exit = True
            thread.join(10)
    if report.errors:
        raise ApplicationLoadError(f"requests failed under load: {report.errors}")


def _counts(manifest: Manifest, records: tuple[Record, ...]) -> dict[str, Counts]:
    """Average the last round: by then batching has learned how far each page is read."""
    by_path: dict[str, list[Record]] = {}
    for record in records:
        by_path.setdefault(record.path, []).append(record)
    counts = {}
    for endpoint in manifest.endpoint:
        asked = Counter(path.partition("?")[0] for path in endpoint.paths)
        mine = [record for path, times in asked.items() for record in by_path[path][-times:]]
        counts[endpoint.name] = Counts(
            statements=mean(len(record.statements) for record in mine),
            most_statements=max(len(record.statements) for record in mine),
            rows=mean(sum(each.rows or 0 for each in record.statements) for record in mine),
            bytes=mean(record.response_bytes for record in mine),
        )
    return counts


async def _bodies(app: ASGIApp, paths: list[str]) -> dict[str, str]:
    bodies = {}
    for path in paths:
        response = await get(app, path, {"accept-encoding": "gzip"})
        is_gzip = response.headers.get("content-encoding") == "gzip"
        bodies[path] = (gzip.decompress(response.body) if is_gzip else response.body).decode()
    return bodies
