"""What a `Cache` does, to be awaited: under the same names, so that code need not know where values live.

In one process nothing has to be waited for. Where values live on another machine, these give way to other
tasks meanwhile, and the plain ones would not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from upshift.cache.values import NAMESPACE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from upshift.cache.cache import Cache
    from upshift.cache.durations import Duration


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
        return self._cache.get(key, default, namespace=namespace)

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
        return self._cache.set(key, value, ttl=ttl, tags=tags, namespace=namespace)

    async def get_many(self, keys: Iterable[str], *, namespace: str = NAMESPACE) -> dict[str, Any]:
        """Return the values of those names under which one is kept that holds."""
        return self._cache.get_many(keys, namespace=namespace)

    async def set_many(
        self,
        values: Mapping[str, Any],
        *,
        ttl: Duration | None = None,
        tags: Iterable[str] = (),
        namespace: str = NAMESPACE,
    ) -> int:
        """Keep each value under its name; return how many are kept."""
        return self._cache.set_many(values, ttl=ttl, tags=tags, namespace=namespace)

    async def delete(self, key: str, *, namespace: str = NAMESPACE) -> bool:
        """Drop the value of a name; return whether there was one."""
        return self._cache.delete(key, namespace=namespace)

    async def delete_matching(self, pattern: str) -> int:
        """Drop the entries whose names match a pattern: see `Cache.delete_matching`."""
        return self._cache.delete_matching(pattern)

    async def delete_namespace(self, namespace: str) -> int:
        """Serve nothing any more of a namespace, and drop its entries; return how many there were."""
        return self._cache.delete_namespace(namespace)

    async def invalidate(self, *tags: str) -> None:
        """Serve nothing any more that depends on one of these tags."""
        self._cache.invalidate(*tags)

    async def clear(self) -> None:
        """Drop every entry: see `Cache.clear`."""
        self._cache.clear()
