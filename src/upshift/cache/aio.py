"""What a `Cache` does, to be awaited: under the same names, so that code need not know where values live.

In one process nothing has to be waited for. Where values live on another machine, these give way to other
tasks meanwhile, and the plain ones would not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy.util import greenlet_spawn

from upshift.cache.durations import seconds_of
from upshift.cache.values import NAMESPACE
from upshift.cache.warming import CONCURRENCY, Warmed, warm_async, warming

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from contextlib import AbstractAsyncContextManager

    from upshift.cache.cache import Cache
    from upshift.cache.durations import Duration
    from upshift.cache.warming import AsyncCalls, Progress

_Result = TypeVar("_Result")


class AsyncCache:
    """The awaited forms of a cache: `cache.aio`.

    Args:
        cache: the cache.

    Example:
        >>> import asyncio
        >>> from upshift.cache import Cache
        >>> cache = Cache()
        >>> asyncio.run(cache.aio.set("rate:TWD", 32.5, ttl="5m"))
        True
        >>> asyncio.run(cache.aio.get("rate:TWD"))
        32.5
    """

    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    async def get(self, key: str, default: Any = None, *, namespace: str = NAMESPACE) -> Any:
        """Return the value that is kept under a name and holds, or `default`: see `Cache.get`."""
        return await self._run(self._cache.get, key, default, namespace=namespace)

    async def set(
        self,
        key: str,
        value: Any,
        *,
        ttl: Duration | None = None,
        tags: Iterable[str] = (),
        namespace: str = NAMESPACE,
    ) -> bool:
        """Keep a value under a name: see `Cache.set`."""
        return await self._run(self._cache.set, key, value, ttl=ttl, tags=tags, namespace=namespace)

    async def get_many(self, keys: Iterable[str], *, namespace: str = NAMESPACE) -> dict[str, Any]:
        """Return the values of those names under which one is kept that holds."""
        return await self._run(self._cache.get_many, keys, namespace=namespace)

    async def set_many(
        self,
        values: Mapping[str, Any],
        *,
        ttl: Duration | None = None,
        tags: Iterable[str] = (),
        namespace: str = NAMESPACE,
    ) -> int:
        """Keep each value under its name; return how many are kept."""
        return await self._run(self._cache.set_many, values, ttl=ttl, tags=tags, namespace=namespace)

    async def delete(self, key: str, *, namespace: str = NAMESPACE) -> bool:
        """Drop the value of a name; return whether there was one."""
        return await self._run(self._cache.delete, key, namespace=namespace)

    async def delete_matching(self, pattern: str) -> int:
        """Drop the entries whose names match a pattern: see `Cache.delete_matching`."""
        return await self._run(self._cache.delete_matching, pattern)

    async def delete_namespace(self, namespace: str) -> int:
        """Serve nothing any more of a namespace, and drop its entries; return how many there were."""
        return await self._run(self._cache.delete_namespace, namespace)

    async def invalidate(self, *tags: str) -> None:
        """Serve nothing any more that depends on one of these tags."""
        await self._run(self._cache.invalidate, *tags)

    async def clear(self) -> None:
        """Drop every entry: see `Cache.clear`."""
        await self._run(self._cache.clear)

    async def warm(
        self,
        function: Callable[..., Any],
        calls: AsyncCalls,
        *,
        concurrency: int = CONCURRENCY,
        progress: Progress | None = None,
    ) -> Warmed:
        """Call a cached function with arguments that will be asked for; return when all calls have ended.

        As `Cache.warm`, for functions that are awaited and for others, which run in threads. As something
        that an application starts with, before it serves: `up.lifespan.add("menus", start=warm_menus)`.

        Args:
            function: the function.
            calls: the arguments of each call, or a function that returns them, sync or async.
            concurrency: calls at once.
            progress: is called with a `Warmed` whenever a call has ended.
        """
        return await warm_async(function, calls, concurrency=concurrency, progress=progress)

    def warming(
        self,
        function: Callable[..., Any],
        calls: AsyncCalls,
        *,
        every: Duration | None = None,
        concurrency: int = CONCURRENCY,
        progress: Progress | None = None,
    ) -> AbstractAsyncContextManager[None]:
        """Warm in the background of an `async with` block: at its beginning, and at intervals.

        Values that hold are left alone: what an interval adds are those that have ended. It ends with the
        block, and does not hold up its beginning. Hand it to
        `up.lifespan.add("menus", context=lambda: up.cache.aio.warming(menu, ids, every="10m"))`.

        Args:
            function: the function.
            calls: the arguments of each call, or a function that returns them, sync or async.
            every: the interval; once where none is given.
            concurrency: calls at once.
            progress: is called with a `Warmed` whenever a call has ended.

        Raises:
            SettingsError: `every` is no duration.
        """
        seconds = None if every is None else seconds_of(every)
        return warming(function, calls, every=seconds, concurrency=concurrency, progress=progress)

    async def _run(self, function: Callable[..., _Result], *arguments: Any, **options: Any) -> _Result:
        """Call a function of the cache, which gives way to other tasks while it waits for Redis."""
        if not self._cache.is_shared:
            return function(*arguments, **options)
        return await greenlet_spawn(function, *arguments, **options)
