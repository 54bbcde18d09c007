"""Loads values anew as soon as a commit has ended them, so that those who come next find them.

Only values that were read since they were loaded, the most read ones first, and no more than a function was
told; one after the other. A commit that comes meanwhile adds to what waits; what is loaded for one and
overtaken by the next is not kept, like any other load.
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from contextvars import Context
from functools import partial
from heapq import nlargest
from typing import TYPE_CHECKING, NamedTuple

from upshift.cache.functions.background import own_context
from upshift.cache.functions.refreshing import may_be_repeated

if TYPE_CHECKING:
    from collections.abc import Iterable

    from upshift.cache.functions.calls import Call
    from upshift.cache.functions.loader import Loader
    from upshift.cache.functions.store import Store
    from upshift.cache.memory import Entry, Key

KNOWN = 10
"""Calls that are remembered for each one that may be loaded anew."""

_Loop = asyncio.AbstractEventLoop | None


class _Known(NamedTuple):
    """A call whose value is kept, what that depends on, and where it was called."""

    call: Call
    tags: frozenset[str]
    context: Context
    loop: _Loop


class Rewarmer:
    """Loads the values of one function anew.

    Args:
        loader: loads them.
        store: what it works with.
        most: how many at most.
        is_async: whether the function is.
    """

    def __init__(self, loader: Loader, store: Store, most: int, *, is_async: bool) -> None:
        self._loader = loader
        self._store = store
        self._most = most
        self._is_async = is_async
        self._known: dict[Key, _Known] = {}
        # By event loop, as long as somebody works on it there; None stands for a thread.
        self._waiting: dict[_Loop, dict[Key, _Known]] = {}
        self._lock = threading.Lock()

    def note(self, call: Call, entry: Entry) -> None:
        """Remember a call whose value has been loaded and kept."""
        if not may_be_repeated(call):
            return
        loop = asyncio.get_running_loop() if self._is_async else None
        with self._lock:
            self._known.pop(call.key, None)
            self._known[call.key] = _Known(call, entry.tags, own_context(), loop)
            if len(self._known) > KNOWN * self._most:
                del self._known[next(iter(self._known))]

    def settled(self, tags: Iterable[str]) -> None:
        """Load anew what a commit has ended."""
        for loop in self._chosen(frozenset(tags)):
            if loop is None:
                self._begun(loop, self._store.background.run_sync(self._work_sync, Context()))
            elif loop is _running_loop():
                self._begin_in(loop)
            else:
                try:
                    loop.call_soon_threadsafe(self._begin_in, loop)
                except RuntimeError:  # it is closed
                    self._begun(loop, False)

    def _chosen(self, written: frozenset[str]) -> list[_Loop]:
        """Have the values that are worth it wait to be loaded; return where nobody works on them yet."""
        with self._lock:
            for loop in [each for each in self._waiting if each is not None and each.is_closed()]:
                del self._waiting[loop]
            ended = [known for known in self._known.values() if not known.tags.isdisjoint(written)]
            for known in ended:
                del self._known[known.call.key]
            reads = [(self._reads(known.call.key), known) for known in ended]
            read = [each for each in reads if each[0]]
            begun = []
            for _, known in nlargest(self._most, read, key=lambda each: each[0]):
                if known.loop not in self._waiting:
                    self._waiting[known.loop] = {}
                    begun.append(known.loop)
                waiting = self._waiting[known.loop]
                waiting[known.call.key] = known
                if len(waiting) > self._most:
                    del waiting[next(iter(waiting))]
            return begun

    def _reads(self, key: Key) -> int:
        entry = self._store.memory.entries.get(key)
        # One that is gone was most likely found to hold no more, by somebody who read it.
        return 1 if entry is None else entry.reads

    def _begin_in(self, loop: asyncio.AbstractEventLoop) -> None:
        work = partial(self._work_async, loop)
        self._begun(loop, self._store.background.run_async(work, Context()))

    def _begun(self, loop: _Loop, is_so: bool) -> None:  # noqa: FBT001 - what was asked for
        if not is_so:
            self._give_up(loop)

    def _give_up(self, loop: _Loop) -> None:
        with self._lock:
            self._waiting.pop(loop, None)

    async def _work_async(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            while (known := self._next(loop)) is not None:
                with suppress(Exception):  # the loader has counted it
                    await loop.create_task(self._loader.run_async(known.call), context=known.context)
                    self._count(known)
        finally:
            self._give_up(loop)

    def _work_sync(self) -> None:
        try:
            while (known := self._next(None)) is not None:
                with suppress(Exception):  # the loader has counted it
                    known.context.run(self._loader.run_sync, known.call)
                    self._count(known)
        finally:
            self._give_up(None)

    def _count(self, known: _Known) -> None:
        if known.call.key in self._store.memory.entries:  # else it has been overtaken
            self._store.statistics.refreshed += 1

    def _next(self, loop: _Loop) -> _Known | None:
        with self._lock:
            waiting = self._waiting.get(loop)
            if waiting and not self._store.background.is_closed:
                return waiting.pop(next(iter(waiting)))
            self._waiting.pop(loop, None)  # here, so that nothing is added that nobody would look at
            return None


def _running_loop() -> _Loop:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
