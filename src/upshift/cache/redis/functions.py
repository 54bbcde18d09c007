"""A cached function whose values all processes share: in memory of each, and in Redis.

What memory has is served after one look at the tokens in Redis, or without where that is not longer ago than
the lease. What it has not may be in Redis, with its tokens in the same answer. Else it is loaded: once in
this process, by whoever called first, and once in all of them, by who could claim it.

Who waited for another's load takes what it brought
    - if that load began after the call: then it is as new as one of its own;
    - or if it held when it was kept, and that was after the call began, or holds now.

The first is what is left when Redis is away: calls go in turns, each of which loads once.
"""

from __future__ import annotations

import asyncio
from functools import wraps
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy.util import greenlet_spawn

from upshift.cache.dependencies import CURRENT, WRITING, written_here
from upshift.cache.functions import Cached, Call, value_of
from upshift.cache.functions.refreshing import Refresher
from upshift.cache.keys import CallKeys
from upshift.cache.redis.loader import SharedLoad, SharedLoader
from upshift.cache.redis.shared import inherit
from upshift.cache.redis.wire import Unreachable
from upshift.cache.request import REQUEST, note_hit

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from upshift.cache.functions.flights import Load
    from upshift.cache.functions.options import Options
    from upshift.cache.functions.store import Store
    from upshift.cache.memory import Entry, Key
    from upshift.cache.redis.remote import Steps
    from upshift.cache.redis.shared import Shared

_Result = TypeVar("_Result")


class SharedCached(Cached):
    """One function with its cache.

    Args:
        function: the function, sync or async.
        store: what it works with.
        options: how its values are kept.
        namespace: the first part of its keys.
        key_of: makes the second one, of the arguments of a call.
        shared: what all processes share.
    """

    loader: SharedLoader

    def __init__(  # noqa: PLR0913 - one call site
        self,
        function: Callable[..., Any],
        store: Store,
        options: Options,
        *,
        namespace: str,
        key_of: Callable[..., Hashable],
        shared: Shared,
    ) -> None:
        super().__init__(function, store, options, namespace=namespace, key_of=key_of)
        self._shared = shared
        self.loader = SharedLoader(function, store, options, namespace, shared)
        self._refresher = Refresher(self.loader, store, is_async=self.is_async)

    def wrapped(self) -> Callable[..., Any]:
        """Return the function in whose place it is called."""
        key_of, namespace = self._key_of, self._namespace
        entries, statistics, request_here = self._store.memory.entries, self._store.statistics, REQUEST.get
        is_simple = isinstance(key_of, CallKeys) and key_of.is_simple

        def find(arguments: tuple[Any, ...], named: dict[str, Any]) -> tuple[Key, Entry | None]:
            if is_simple and len(arguments) == 1 and type(arguments[0]) is int and not named:
                key: Key = (namespace, arguments[0])
            else:
                key = (namespace, key_of(*arguments, **named))
            entry = entries.get(key)
            if entry is None:
                return key, None
            now = monotonic()
            if entry.leased <= now or entry.due <= now or CURRENT.get() is not None or WRITING.get():
                return key, None
            entry.reads += 1
            statistics.hits += 1
            if (record := request_here()) is not None:
                record.cache_hits += 1
            return key, entry

        if self.is_async:

            @wraps(self._function)
            async def cached_async(*arguments: Any, **named: Any) -> Any:
                key, entry = find(arguments, named)
                return await self._answer_async(Call(key, arguments, named)) if entry is None else entry.value

            return cached_async

        @wraps(self._function)
        def cached(*arguments: Any, **named: Any) -> Any:
            key, entry = find(arguments, named)
            return self._answer_sync(Call(key, arguments, named)) if entry is None else entry.value

        return cached

    async def run(self, function: Callable[..., _Result], *arguments: Any) -> _Result:
        """Call a function of the cache, which gives way to other tasks while it waits for Redis."""
        return await greenlet_spawn(function, *arguments)

    async def _answer_async(self, call: Call) -> Any:
        finish, store = self._shared.remote.finish_async, self._store
        arrived = monotonic()
        entry, is_away = await finish(self._look_steps(call))
        if entry is not None:
            return value_of(entry)
        try:
            loop = asyncio.get_running_loop()
            while (other := store.flights.in_loop(call.key, loop)) is not None and not written_here():
                await other.done.wait()
                if (entry := await finish(self._judge_steps(other, arrived))) is not None:
                    return value_of(entry)
            return await self.loader.load_async(call, is_away=is_away)
        except Exception as error:
            if (entry := self._last(call.key, error)) is None:
                raise
            return value_of(entry)

    def _answer_sync(self, call: Call) -> Any:
        finish, store = self._shared.remote.finish, self._store
        arrived = monotonic()
        entry, is_away = finish(self._look_steps(call))
        if entry is not None:
            return value_of(entry)
        try:
            while (other := store.flights.in_other_thread(call.key)) is not None and not written_here():
                other.done.wait()
                if (entry := finish(self._judge_steps(other, arrived))) is not None:
                    return value_of(entry)
            return self.loader.load_sync(call, is_away=is_away)
        except Exception as error:
            if (entry := self._last(call.key, error)) is None:
                raise
            return value_of(entry)

    def delete(self, call: Call) -> bool:
        """Drop the value of a call, and what is being loaded for it here; return whether there was one."""
        was_here = super().delete(call)
        return self._shared.remote.finish(self._shared.tier.delete_steps(call.key)) or was_here

    def _find(self, call: Call) -> Entry | None:
        return self._shared.remote.finish(self._look_steps(call))[0]

    def _look_steps(self, call: Call) -> Steps[tuple[Entry | None, bool]]:
        """Look for an entry that answers a call, in memory and then in Redis; tell whether that is away."""
        store, entry = self._store, self._store.memory.entries.get(call.key)
        try:
            if entry is not None:
                if not written_here().isdisjoint(entry.tags):
                    store.statistics.bypassed += 1
                    return None, False
                if entry.expires <= monotonic():
                    store.statistics.expired += 1
                else:
                    if (yield from self._shared.renew_steps(entry)):
                        return self._hit(entry, call), False
                    store.statistics.stale_prevented += 1
                if not self._options.stale_seconds:
                    store.memory.remove(entry)
            entry = yield from self.loader.fetch_steps(call)
        except Unreachable:
            return None, True
        if entry is None or not written_here().isdisjoint(entry.tags):
            return None, False
        return self._hit(entry, call), False

    def _hit(self, entry: Entry, call: Call) -> Entry:
        inherit(entry.stamp)
        if entry.renewal <= monotonic():
            self._refresher.refresh_soon(entry, call)
        entry.reads += 1
        self._store.statistics.hits += 1
        note_hit()
        return entry

    def _judge_steps(self, other: Load[Any], arrived: float) -> Steps[Entry | None]:
        """Return what answers a call that has waited for another's load; None where nothing does."""
        if not isinstance(other, SharedLoad) or other.is_cancelled:
            return None
        read = other.reading
        stamp = read.stamp if other.brought is None else other.brought.stamp
        is_new_enough = other.began > arrived or (other.entry is not None and other.kept > arrived)
        if not is_new_enough and (read.refusal or not (yield from self._shared.tokens.holds_steps(stamp))):
            return None
        outer = CURRENT.get()
        if outer is not None and read.refusal:
            outer.spoil(read.refusal)
        inherit(stamp)
        if other.brought is None and other.error is not None:
            raise other.error
        if other.brought is not None:
            self._store.statistics.joined += 1
        return other.brought
