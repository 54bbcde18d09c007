"""A cached function: looks for an entry that holds, or loads, once for all who ask for the same.

A call may share a load that began before it. The guarantee is about values as of the beginning of a call, so
it takes what the load brought only if that holds when it is brought: then nothing was committed since the
load's stamps, and the value is as new as one that it would have loaded itself. Where the value was not kept,
each call loads its own.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from contextlib import contextmanager
from functools import wraps
from math import inf
from random import random
from time import monotonic, perf_counter
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from upshift.cache.dependencies import CURRENT, WRITING, Reading, reading, written_here
from upshift.cache.keys import CallKeys
from upshift.cache.memory import Entry
from upshift.cache.sizes import size_of

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator

    from upshift.cache.memory import Key, Memory
    from upshift.cache.statistics import Statistics
    from upshift.cache.tokens import Carrier

JITTER = 0.1
"""Share of its time by which a value may be dropped early."""

MAX_EXPECTED = 64
"""Tags of its values that a function remembers, to stamp them before it loads."""

_Done = TypeVar("_Done", asyncio.Event, threading.Event)


def name_tag(tag: str) -> str:
    """Return the tag that a name of the application's stands for: never that of a table."""
    return f"name:{tag}"


class Store(NamedTuple):
    """What a cached function works with.

    Attributes:
        tokens: where tokens live.
        memory: where entries do.
        now: numbers moments in the order in which they come.
        statistics: counts what happens.
    """

    tokens: Carrier[tuple[Any, ...]]
    memory: Memory
    now: Callable[[], int]
    statistics: Statistics


class _Load(Generic[_Done]):
    """A load that others may wait for.

    Attributes:
        done: set when it is over.
        owner: the event loop or the thread that it runs in.
        value: what it has brought.
        entry: that as it is kept; None where it was not.
        error: the exception that it ended with, which its callers share.
        is_cancelled: whether it was given up; who waited loads again.
    """

    def __init__(self, done: _Done, owner: object) -> None:
        self.done: _Done = done
        self.owner = owner
        self.value: Any = None
        self.entry: Entry | None = None
        self.error: Exception | None = None
        self.is_cancelled = False


class Cached:
    """One function with its cache.

    Args:
        function: the function, sync or async.
        store: what it works with.
        namespace: the first part of its keys.
        seconds: how long a value is served at most; None for no limit.
        tags: further names that values depend on, with `{parameter}` for arguments.
        key: makes the key of a call.
    """

    def __init__(  # noqa: PLR0913 - one call site
        self,
        function: Callable[..., Any],
        store: Store,
        *,
        namespace: str,
        seconds: float | None,
        tags: tuple[str, ...],
        key: Callable[..., Hashable],
    ) -> None:
        self._function = function
        self._store = store
        self._namespace = namespace
        self._seconds = seconds
        self._tags = tags
        self._key = key
        self._signature = inspect.signature(function)
        self._expected: frozenset[str] = frozenset()
        self._loads: dict[Key, _Load[Any]] = {}

    def wrapped(self) -> Callable[..., Any]:
        """Return the function in whose place it is called.

        A hit is the work of this one function, with `holds`: each further call would cost a tenth of it.
        """
        key_of, namespace, store = self._key, self._namespace, self._store
        entries, holds, statistics = store.memory.entries, store.tokens.holds, store.statistics
        # Of a number alone no key has to be made.
        is_simple = isinstance(key_of, CallKeys) and key_of.is_simple

        def find(arguments: tuple[Any, ...], named: dict[str, Any]) -> tuple[Key, Entry | None]:
            if is_simple and not named and len(arguments) == 1 and type(arguments[0]) is int:
                key: Key = (namespace, arguments[0])
            else:
                key = (namespace, key_of(*arguments, **named))
            entry = entries.get(key)
            if entry is None:
                return key, None
            if (
                holds(entry.stamp)
                and entry.expires > monotonic()
                and CURRENT.get() is None
                and not WRITING.get()
            ):
                entry.reads += 1
                statistics.hits += 1
                return key, entry
            return key, self._find(key)

        if inspect.iscoroutinefunction(self._function):

            @wraps(self._function)
            async def cached_async(*arguments: Any, **named: Any) -> Any:
                key, entry = find(arguments, named)
                return await self._load_async(key, arguments, named) if entry is None else entry.value

            return cached_async

        @wraps(self._function)
        def cached(*arguments: Any, **named: Any) -> Any:
            key, entry = find(arguments, named)
            return self._load_sync(key, arguments, named) if entry is None else entry.value

        return cached

    def _find(self, key: Key) -> Entry | None:
        """Return the entry that answers a call; None where there is none that holds."""
        entry = self._store.memory.entries.get(key)
        if entry is None or not self._holds(entry):
            return None
        self._store.statistics.hits += 1
        return entry

    def _holds(self, entry: Entry) -> bool:
        outer = CURRENT.get()
        if outer is not None:
            outer.need(entry.tags)  # first: what is written after this is not in the value
        if not self._store.tokens.holds(entry.stamp):
            self._store.statistics.stale_prevented += 1
            self._store.memory.remove(entry)
            return False
        if entry.expires <= monotonic():
            self._store.statistics.expired += 1
            self._store.memory.remove(entry)
            return False
        if not written_here().isdisjoint(entry.tags):
            self._store.statistics.bypassed += 1
            return False
        entry.reads += 1
        return True

    async def _load_async(self, key: Key, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
        loop = asyncio.get_running_loop()
        while (other := self._loads.get(key)) is not None and other.owner is loop:
            await other.done.wait()
            if (entry := self._entry_after(other, key)) is not None:
                return entry.value
            if not other.is_cancelled:
                break
        load = _Load(asyncio.Event(), loop)
        with self._loading(key, load), reading(self._reading(arguments, named)) as mine:
            load.value = await self._function(*arguments, **named)
            load.entry = self._keep(key, load, mine)
        return load.value

    def _load_sync(self, key: Key, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
        thread = threading.get_ident()
        while (other := self._loads.get(key)) is not None and other.owner != thread:
            other.done.wait()
            if (entry := self._entry_after(other, key)) is not None:
                return entry.value
            if not other.is_cancelled:
                break
        load = _Load(threading.Event(), thread)
        with self._loading(key, load), reading(self._reading(arguments, named)) as mine:
            load.value = self._function(*arguments, **named)
            load.entry = self._keep(key, load, mine)
        return load.value

    def _entry_after(self, other: _Load[Any], key: Key) -> Entry | None:
        """Return what answers a call that has waited for another's load; None where it has to load itself."""
        if other.is_cancelled:
            return self._find(key)  # of one who waited as well
        if other.error is not None:
            raise other.error
        if other.entry is None or not self._holds(other.entry):
            return None
        self._store.statistics.joined += 1
        return other.entry

    @contextmanager
    def _loading(self, key: Key, load: _Load[Any]) -> Iterator[None]:
        """Let others wait for a load, unless another is under way, and tell them how it ended."""
        self._loads.setdefault(key, load)
        statistics, began = self._store.statistics, perf_counter()
        statistics.misses += 1
        try:
            yield
        except Exception as error:
            load.error = error
            raise
        except BaseException:
            load.is_cancelled = True
            raise
        finally:
            statistics.load_seconds += perf_counter() - began
            if self._loads.get(key) is load:
                del self._loads[key]
            load.done.set()

    def _reading(self, arguments: tuple[Any, ...], named: dict[str, Any]) -> Reading:
        mine = Reading(self._store.tokens, self._store.now(), self._expected, CURRENT.get())
        if self._tags:
            mine.need(self._named_tags(arguments, named))
        return mine

    def _named_tags(self, arguments: tuple[Any, ...], named: dict[str, Any]) -> list[str]:
        bound = self._signature.bind(*arguments, **named)
        bound.apply_defaults()
        return [name_tag(tag.format_map(bound.arguments) if "{" in tag else tag) for tag in self._tags]

    def _keep(self, key: Key, load: _Load[Any], mine: Reading) -> Entry | None:
        """Keep what was loaded, if it may be; a call that waits takes it from the entry."""
        store, tags, stamp = self._store, mine.tags, mine.stamp
        if not tags <= self._expected and len(self._expected | tags) <= MAX_EXPECTED:
            self._expected |= tags
        refusal = mine.refusal
        if not refusal and not store.tokens.holds(stamp):
            refusal = "what it depends on was written meanwhile"
        if refusal:
            store.statistics.refuse(refusal)
            return None
        expires = inf
        if self._seconds is not None:
            expires = monotonic() + self._seconds * (1 - JITTER * random())  # noqa: S311 - no secret
        entry = Entry(key, load.value, stamp, tags, expires, size_of(load.value))
        store.memory.put(entry)
        store.statistics.fills += 1
        return entry
