"""A write-behind on a folder of the test's own, and a table in memory."""

from __future__ import annotations

import time

import pytest

from upshift.cache import Cache


@pytest.fixture
def make(tmp_path):
    """Make write-behinds, each as of a process of its own; they are closed at the end."""
    made = []

    def make(flush, **options):
        options = {"folder": tmp_path, "delay": "1ms", "timeout": "10s"} | options
        made.append(Cache().writes.behind("stock", flush, **options))
        return made[-1]

    yield make
    for each in made:
        each.close(0.0)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "stock"


def wait_until(condition, seconds=30.0):
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.002)
