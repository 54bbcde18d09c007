"""Loads that nobody waits for: in the event loop, or in threads of their own; never more than a few at once.

What cannot be begun at once is not done: the next call that finds it due asks again.
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

from upshift.cache.dependencies import CURRENT, WRITING
from upshift.cache.request import REQUEST
from upshift.record.fork import after_fork

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from contextvars import Context

MAX_TASKS = 64
MAX_THREADS = 8
"""Loads at once: in all event loops together, and in threads."""


class Background:
    """Runs loads for a cache.

    Attributes:
        is_closed: whether nothing begins any more.
    """

    def __init__(self) -> None:
        self.is_closed = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._threads = 0
        self._lock = threading.Lock()
        after_fork(self._forget)

    def run_async(self, work: Callable[[], Coroutine[Any, Any, None]], context: Context) -> bool:
        """Begin something in the running event loop; return whether it has begun."""
        if len(self._tasks) >= MAX_TASKS:  # a loop that was closed has left its own undone
            self._tasks -= {task for task in tuple(self._tasks) if task.get_loop().is_closed()}
        if self.is_closed or len(self._tasks) >= MAX_TASKS:
            return False
        task = asyncio.get_running_loop().create_task(work(), context=context)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return True

    def run_sync(self, work: Callable[[], None], context: Context) -> bool:
        """Begin something in a thread; return whether it has begun."""
        with self._lock:
            if self.is_closed or self._threads >= MAX_THREADS:
                return False
            self._threads += 1

        def run() -> None:
            try:
                context.run(work)
            finally:
                with self._lock:
                    self._threads -= 1

        # A daemon: one that hangs must not keep the process from ending.
        thread = threading.Thread(target=run, name="upshift-cache", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # no more threads can be had, or the interpreter ends
            with self._lock:
                self._threads -= 1
            return False
        return True

    def close(self) -> None:
        """Begin nothing any more, and give up what runs in event loops. Twice does nothing more."""
        self.is_closed = True
        for task in tuple(self._tasks):
            with suppress(RuntimeError):  # its loop is closed
                task.get_loop().call_soon_threadsafe(task.cancel)

    def _forget(self) -> None:
        """In a forked child: neither threads nor event loops have come along."""
        self._tasks = set()
        self._threads = 0
        self._lock = threading.Lock()


def own_context() -> Context:
    """Return a copy of the running context, as of no request, and of nobody who is cached or has written."""
    context = copy_context()
    context.run(CURRENT.set, None)
    context.run(WRITING.set, ())
    context.run(REQUEST.set, None)
    return context
