"""Changes the data while it is read, in a process of its own, as another worker of the application would.

The process has the application's engines and the cache's page, so that whoever shares the page is told what
it is about to commit.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, cast

import msgspec

from upshift.cache import Cache
from upshift.cli.boot import find_engines, load_application
from upshift.cli.demo.manifest import Manifest  # noqa: TC001 - msgspec reads it
from upshift.errors import ApplicationLoadError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Work(msgspec.Struct, frozen=True):
    """What to do.

    Attributes:
        manifest: the application.
        page: the cache's page.
        per_second: changes a second.
    """

    manifest: Manifest
    page: str
    per_second: float


class Writer:
    """The process that writes.

    Attributes:
        writes: what it has committed, once it has ended.
    """

    def __init__(self) -> None:
        self.writes = 0


@contextmanager
def writing(manifest: Manifest, database_url: str, page: Path, per_second: float) -> Iterator[Writer]:
    """Have the data of an application changed in the length of a `with` block.

    Raises:
        ApplicationLoadError: the writer failed; the message has the last line of its output.
    """
    work = msgspec.json.encode(Work(manifest, str(page), per_second))
    writer = Writer()
    with subprocess.Popen(
        [sys.executable, "-c", "from upshift.cli.demo.writing import main; main()"],
        env={**os.environ, manifest.database_url_variable: database_url},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        try:
            process.stdin.write(work + b"\n")
            process.stdin.flush()
            assert process.stdout is not None
            process.stdout.readline()  # it has begun, or ended
            yield writer
        finally:
            told, complaint = process.communicate()  # which ends it, as its input does
    if process.returncode != 0:
        lines = complaint.decode("utf-8", "replace").strip().splitlines() or ["it said nothing"]
        raise ApplicationLoadError(f"{manifest.name} could not be written to: {lines[-1]}")
    writer.writes = int(told)


def main() -> None:
    """Do the work that a line on standard input tells, until the input ends; print how often it was done."""
    work = msgspec.json.decode(sys.stdin.buffer.readline(), type=Work)
    change = cast("Callable[[Random], None]", load_application(work.manifest.write, work.manifest.app_dir))
    cache = Cache(page=Path(work.page))
    cache.watch(find_engines())
    is_over = threading.Event()

    def wait_for_the_end() -> None:
        while os.read(sys.stdin.fileno(), 1_024):
            pass  # not by `sys.stdin`, whose lock would be held when the process ends by an error
        is_over.set()

    threading.Thread(target=wait_for_the_end, daemon=True).start()
    random, writes, due = Random(7), 0, time.monotonic()  # noqa: S311 - the same changes each time
    while not is_over.is_set():
        change(random)
        writes += 1
        if writes == 1:
            sys.stdout.write("begun\n")
            sys.stdout.flush()
        due = max(due + 1 / work.per_second, time.monotonic())
        is_over.wait(due - time.monotonic())
    sys.stdout.write(str(writes))
