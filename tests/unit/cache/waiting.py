"""Waits for what happens in the background, and tells of no event."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


async def until(condition: Callable[[], object]) -> None:
    """Wait in an event loop until something is so, for ten seconds at most."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - what it waits for sets no event
            await asyncio.sleep(0.001)


def wait_until(condition: Callable[[], object]) -> None:
    """Wait in a thread until something is so, for about ten seconds at most."""
    ended = threading.Event()
    for _ in range(10_000):
        if condition():
            return
        ended.wait(0.001)
    raise AssertionError("it did not happen")
