"""A cached function: looks for an entry that holds, or loads, once for all who ask for the same.

A call may share a load that began before it. The guarantee is about values as of the beginning of a call, so
it takes what the load brought only if that holds when it is brought: then nothing was committed since the
load's stamps, and the value is as new as one that it would have loaded itself. The same goes for the error
that a load ended with. Where nothing that holds was brought, each call loads its own.

A value that is loaded in the background passes the same way. Until it is there the old one is served, while
it holds; when it is not, those who call meanwhile wait for the load, and judge it likewise.
"""

from __future__ import annotations

import asyncio
import inspect
from functools import wraps
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar

from upshift.cache.dependencies import CURRENT, WRITING, written_here
from upshift.cache.functions.calls import Call
from upshift.cache.functions.entries import value_of
from upshift.cache.functions.kept_errors import KeptError
from upshift.cache.functions.loader import Loader
from upshift.cache.functions.missing import MISSING
from upshift.cache.functions.refreshing import Refresher
from upshift.cache.functions.rewarming import Rewarmer
from upshift.cache.keys import CallKeys
from upshift.cache.request import REQUEST, note_hit
from upshift.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from upshift.cache.dependencies import Reading
    from upshift.cache.functions.flights import Load
    from upshift.cache.functions.options import Options
    from upshift.cache.functions.store import Store
    from upshift.cache.memory import Entry, Key

_Result = TypeVar("_Result")


class Cached:
    """One function with its cache.

    Args:
        function: the function, sync or async.
        store: what it works with.
        options: how its values are kept.
        namespace: the first part of its keys.
        key_of: makes the second one, of the arguments of a call.

    Raises:
        SettingsError: the function is a generator.

    Attributes:
        is_async: whether the function is.
        loader: loads its values.
        rewarmer: loads them anew after a commit; None where that is not asked for.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        store: Store,
        options: Options,
        *,
        namespace: str,
        key_of: Callable[..., Hashable],
    ) -> None:
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise SettingsError(f"{namespace} yields, and what it yields can be read once: return a list")
        self.is_async = inspect.iscoroutinefunction(function)
        self.loader = Loader(function, store, options, namespace)
        self._function = function
        self._store = store
        self._options = options
        self._namespace = namespace
        self._key_of = key_of
        self._refresher = Refresher(self.loader, store, is_async=self.is_async)
        self.rewarmer: Rewarmer | None = None
        if options.rewarmed:
            self.rewarmer = Rewarmer(self.loader, store, options.rewarmed, is_async=self.is_async)
            self.loader.kept = self.rewarmer.note

    def wrapped(self) -> Callable[..., Any]:
        """Return the function in whose place it is called.

        A hit is the work of this function alone, with `holds`, and is written out for both kinds: each
        further call would cost a tenth of it, and each name that is looked up elsewhere than in its cells a
        fiftieth. What needs more than to hand out a value is `due`.
        """
        namespace, key_of, statistics = self._namespace, self._key_of, self._store.statistics
        entry_at, holds, now = self._store.memory.entries.get, self._store.tokens.holds, monotonic
        reading_here, writing_here, request_here = CURRENT.get, WRITING.get, REQUEST.get
        # Of a number alone no key has to be made.
        is_simple = isinstance(key_of, CallKeys) and key_of.is_simple

        if self.is_async:

            @wraps(self._function)
            async def cached_async(*arguments: Any, **named: Any) -> Any:
                if is_simple and len(arguments) == 1 and type(arguments[0]) is int and not named:
                    key: Key = (namespace, arguments[0])
                else:
                    key = (namespace, key_of(*arguments, **named))
                entry = entry_at(key)
                if (
                    entry is not None
                    and holds(entry.stamp)
                    and entry.due > now()
                    and reading_here() is None
                    and not writing_here()
                ):
                    entry.reads += 1
                    statistics.hits += 1
                    if (record := request_here()) is not None:
                        record.cache_hits += 1
                    return entry.value
                return await self._answer_async(Call(key, arguments, named))

            return cached_async

        @wraps(self._function)
        def cached(*arguments: Any, **named: Any) -> Any:
            if is_simple and len(arguments) == 1 and type(arguments[0]) is int and not named:
                key: Key = (namespace, arguments[0])
            else:
                key = (namespace, key_of(*arguments, **named))
            entry = entry_at(key)
            if (
                entry is not None
                and holds(entry.stamp)
                and entry.due > now()
                and reading_here() is None
                and not writing_here()
            ):
                entry.reads += 1
                statistics.hits += 1
                if (record := request_here()) is not None:
                    record.cache_hits += 1
                return entry.value
            return self._answer_sync(Call(key, arguments, named))

        return cached

    def call(self, arguments: tuple[Any, ...], named: dict[str, Any]) -> Call:
        """Return a call with its key."""
        return Call((self._namespace, self._key_of(*arguments, **named)), arguments, named)

    def peek(self, call: Call) -> Any:
        """Return the value that is kept for a call; `MISSING` where none is that holds."""
        entry = self._find(call)
        if entry is None:
            self._store.statistics.misses += 1
            return MISSING
        return MISSING if type(entry.value) is KeptError else value_of(entry)

    def delete(self, call: Call) -> bool:
        """Drop the value of a call, and what is being loaded for it; return whether there was one."""
        return self._store.delete_one(call.key)

    def invalidate(self) -> None:
        """Serve nothing any more of what has been kept for any call."""
        self._store.renew([self.loader.tag])

    async def run(self, function: Callable[..., _Result], *arguments: Any) -> _Result:
        """Call a function of the cache from a coroutine."""
        return function(*arguments)

    async def _answer_async(self, call: Call) -> Any:
        entry = self._find(call)
        if entry is not None:
            return value_of(entry)
        try:
            loop = asyncio.get_running_loop()
            while (other := self._store.flights.in_loop(call.key, loop)) is not None:
                await other.done.wait()
                if (entry := self._entry_after(other, call)) is not None:
                    return value_of(entry)
                if not other.is_cancelled:
                    break
            self._store.statistics.misses += 1
            return await self.loader.run_async(call)
        except Exception as error:
            if (entry := self._last(call.key, error)) is None:
                raise
            return value_of(entry)

    def _answer_sync(self, call: Call) -> Any:
        entry = self._find(call)
        if entry is not None:
            return value_of(entry)
        try:
            while (other := self._store.flights.in_other_thread(call.key)) is not None:
                other.done.wait()
                if (entry := self._entry_after(other, call)) is not None:
                    return value_of(entry)
                if not other.is_cancelled:
                    break
            self._store.statistics.misses += 1
            return self.loader.run_sync(call)
        except Exception as error:
            if (entry := self._last(call.key, error)) is None:
                raise
            return value_of(entry)

    def _find(self, call: Call) -> Entry | None:
        """Return the entry that answers a call; None where there is none that holds."""
        entry = self._store.memory.entries.get(call.key)
        if entry is None or not self._holds(entry):
            return None
        if entry.renewal <= monotonic():
            self._refresher.refresh_soon(entry, call)
        self._store.statistics.hits += 1
        note_hit()
        return entry

    def _holds(self, entry: Entry) -> bool:
        outer, store = CURRENT.get(), self._store
        if outer is not None:
            outer.need(entry.tags)  # first: what is written after this is not in the value
        if not store.tokens.holds(entry.stamp):
            store.statistics.stale_prevented += 1
        elif entry.expires <= monotonic():
            store.statistics.expired += 1
        elif not written_here().isdisjoint(entry.tags):
            store.statistics.bypassed += 1
            return False
        else:
            entry.reads += 1
            return True
        if not self._options.stale_seconds:
            store.memory.remove(entry)
        return False

    def _entry_after(self, other: Load[Any], call: Call) -> Entry | None:
        """Return what answers a call that has waited for another's load; None where it has to load itself."""
        if other.is_cancelled:
            return self._find(call)  # of one who waited as well
        if other.entry is None:
            if other.error is not None and self._is_current(other.reading):
                raise other.error
            return None
        if not self._holds(other.entry):
            return None
        self._store.statistics.joined += 1
        return other.entry

    def _is_current(self, read: Reading) -> bool:
        """Whether nothing was written of what another's load has read."""
        outer = CURRENT.get()
        if outer is not None:
            outer.need(read.tags)  # first: what is written after this is not in its error
        return not read.refusal and self._store.tokens.holds(read.stamp)

    def _last(self, key: Key, error: Exception) -> Entry | None:
        """Return the last value of a key, to be served as its load has failed; None where it must not be."""
        if not self._options.stale_seconds:
            return None
        entry = self._store.memory.entries.get(key)
        if (
            entry is None
            or type(entry.value) is KeptError
            or isinstance(error, self._options.kept_errors)
            or monotonic() - entry.made > self._options.stale_seconds
            or not written_here().isdisjoint(entry.tags)
        ):
            return None
        outer = CURRENT.get()
        if outer is not None:
            outer.spoil("it was computed from a value that was served stale")
        self._store.statistics.stale_served_on_error += 1
        return entry
