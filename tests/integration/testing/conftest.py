"""Callers to kill: processes of their own that hold a server, and what has to vanish with them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

REAPED_WITHIN_S = 5.0

HOLD = """
import json, os, sys, time
from upshift.testing.servers import {server}
with {server}() as server:
    print(json.dumps(server.pid), flush=True)
    {then}
"""


@dataclass(frozen=True)
class Traces:
    """What has to vanish with a server: its processes and its directory."""

    supervisor: psutil.Process
    server: psutil.Process
    children: tuple[psutil.Process, ...]
    directory: Path

    @classmethod
    def of(cls, pid: int) -> Traces:
        server = psutil.Process(pid)
        supervisor = server.parent()
        directory = re.search(r"/\S*/upshift-[0-9a-f]{12}\b", " ".join(server.cmdline()))
        assert supervisor is not None
        assert directory is not None
        return cls(supervisor, server, tuple(server.children(recursive=True)), Path(directory[0]))

    def left(self) -> list[object]:
        # In a container nobody may reap an orphan's zombie; it is dead all the same.
        processes = (self.supervisor, self.server, *self.children)
        alive = [p for p in processes if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
        return [*alive, *([self.directory] if self.directory.exists() else [])]

    def assert_gone(self) -> None:
        deadline = time.monotonic() + REAPED_WITHIN_S
        while self.left() and time.monotonic() < deadline:
            time.sleep(0.02)
        assert self.left() == []


@dataclass(frozen=True)
class Caller:
    process: subprocess.Popen[str]
    traces: Traces


@pytest.fixture
def traces_of() -> Callable[[int], Traces]:
    return Traces.of


@pytest.fixture
def hold() -> Iterator[Callable[..., Caller]]:
    """Start a process that holds a server and then does what it is told to."""
    started: list[subprocess.Popen[str]] = []

    def start(server: str, then: str = "time.sleep(60)") -> Caller:
        process = subprocess.Popen(
            [sys.executable, "-c", HOLD.format(server=server, then=then)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        assert process.stdout is not None
        return Caller(process, Traces.of(json.loads(process.stdout.readline())))

    yield start
    for process in started:
        with process:
            process.kill()


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that every user can enter, which pytest's `tmp_path` is not."""
    path = Path(tempfile.mkdtemp(dir="/tmp"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)
