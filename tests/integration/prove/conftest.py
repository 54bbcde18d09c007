import sys
import time
from pathlib import Path

import psutil
import pytest

from upshift.prove import Variant

TINY_SERVER = str(Path(__file__).with_name("tiny_server.py"))


@pytest.fixture
def tiny():
    """Makes variants of the tiny server; its docstring lists the options."""

    def variant(name="base", **options):
        arguments = (f"{option}={value}" for option, value in options.items())
        return Variant(name, (sys.executable, "-IS", TINY_SERVER, "{port}", *arguments))

    return variant


class Pids:
    """The processes that wrote their ids into a file."""

    def __init__(self, file):
        self.file = file

    def __str__(self):
        return str(self.file)

    def all(self):
        return [int(line) for line in self.file.read_text().split()] if self.file.exists() else []

    def running(self):
        return [pid for pid in self.all() if self._runs(pid)]

    def wait_for(self, count, *, by=None, seconds=20):
        until = time.monotonic() + seconds
        while len(self.all()) < count:
            assert by is None or by.poll() is None, f"it ended with {by.returncode}"
            assert time.monotonic() < until, f"only {len(self.all())} of {count} processes started"
            time.sleep(0.02)

    def wait_until_gone(self, seconds=10):
        until = time.monotonic() + seconds
        while self.running():
            assert time.monotonic() < until, f"{self.running()} still run"
            time.sleep(0.02)

    @staticmethod
    def _runs(pid):
        try:
            return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False


@pytest.fixture
def pids(tmp_path):
    return Pids(tmp_path / "pids")
