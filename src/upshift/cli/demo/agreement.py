"""Asks an application whose responses are stored, and compares each with what it would say itself.

First while nobody writes, so that stored answers can be compared with those of the application as it is.
Then while its data is changed by another process: each path is asked past the cache, twice through it, and
past it again. Where the first and the last are the same, nothing was committed between them that they show,
and what the cache gives has to be that too. What the changes write never comes back to what it was, so that
no answer is the same by coming twice.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from upshift.application import Upshift
from upshift.cache import Cache
from upshift.cli.boot import find_engines, load_application
from upshift.cli.demo.manifest import Manifest  # noqa: TC001 - msgspec reads it
from upshift.cli.demo.writing import writing
from upshift.diagnose import get
from upshift.errors import ApplicationLoadError

if TYPE_CHECKING:
    from starlette.types import ASGIApp

SECONDS = 8.0
"""How long answers are compared while the data changes."""

ENOUGH = 100
"""Answers to compare, though it takes longer on a machine that is slow, or busy with other things."""

PATIENCE = 5
"""How many times longer, at most."""

PER_SECOND = 5.0
"""Changes a second meanwhile: some, as it is about being right, and time between them to compare in."""

PAST = {"cache-control": "no-store"}
AGE = "age"


class Questions(msgspec.Struct, frozen=True):
    """What to ask.

    Attributes:
        manifest: the application.
        database_url: its database.
        page: the cache's page.
        seconds: how long answers are compared while the data changes.
        answer: the file to write to.
    """

    manifest: Manifest
    database_url: str
    page: str
    seconds: float
    answer: str


class Agreement(msgspec.Struct, frozen=True):
    """What came out.

    Attributes:
        bodies: the stored answer to each path while nobody wrote; the path is missing where none was stored.
        compared: answers compared while the data changed.
        hits: those of them that were stored ones.
        stale: paths whose answers were older than they may be.
        writes: changes committed meanwhile.
    """

    bodies: dict[str, str]
    compared: int
    hits: int
    stale: tuple[str, ...]
    writes: int


def find_agreement(manifest: Manifest, database_url: str, page: Path, seconds: float = SECONDS) -> Agreement:
    """Run the application on a database with its responses stored, and compare.

    Args:
        manifest: the application.
        database_url: its database.
        page: the cache's page, which is made.
        seconds: how long to compare while the data changes.

    Raises:
        ApplicationLoadError: it failed; the message has the last line of its output.
    """
    answer = page.with_suffix(".agreement")
    questions = Questions(manifest, database_url, str(page), seconds, str(answer))
    finished = subprocess.run(
        [sys.executable, "-c", "from upshift.cli.demo.agreement import main; main()"],
        input=msgspec.json.encode(questions),
        env={**os.environ, manifest.database_url_variable: database_url},
        stderr=subprocess.PIPE,
        check=False,
    )
    if finished.returncode != 0 or not answer.exists():
        lines = finished.stderr.decode("utf-8", "replace").strip().splitlines() or ["it said nothing"]
        raise ApplicationLoadError(f"{manifest.name}'s responses could not be stored: {lines[-1]}")
    return msgspec.json.decode(answer.read_bytes(), type=Agreement)


def main() -> None:
    """Ask the questions given on standard input."""
    questions = msgspec.json.decode(sys.stdin.buffer.read(), type=Questions)
    manifest = questions.manifest
    app = load_application(manifest.app, manifest.app_dir)
    observed = Upshift(
        app,
        engine=find_engines(),
        cache=Cache(page=Path(questions.page)),
        batching=True,
        compression=True,
    )
    for pattern in manifest.responses:
        observed.cache.responses(pattern)
    agreement = asyncio.run(_compare(observed, questions))
    observed.close()
    Path(questions.answer).write_bytes(msgspec.json.encode(agreement))


async def _compare(app: ASGIApp, questions: Questions) -> Agreement:
    manifest = questions.manifest
    paths = [path for endpoint in manifest.endpoint for path in endpoint.paths]
    bodies, stale = {}, set()
    compared = hits = 0
    for path in paths:
        for _ in range(3):  # a route's first answer may only teach what it reads
            answer = await get(app, path, {})
        if AGE in answer.headers:
            bodies[path] = answer.body.decode()
    with writing(manifest, questions.database_url, Path(questions.page), PER_SECOND) as writer:
        began = time.monotonic()
        for path in cycle(paths):
            spent = time.monotonic() - began
            if spent > questions.seconds and (compared >= ENOUGH or spent > PATIENCE * questions.seconds):
                break
            before = await get(app, path, PAST)
            answers = [await get(app, path, {}) for _ in range(2)]
            after = await get(app, path, PAST)
            if before.body == after.body:
                compared += len(answers)
                hits += sum(AGE in each.headers for each in answers)
                if any(each.body != before.body for each in answers):
                    stale.add(path)
    return Agreement(bodies, compared, hits, tuple(sorted(stale)), writer.writes)
