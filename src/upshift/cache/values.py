"""Values that are kept by a name, without a function that would load them."""

from __future__ import annotations

from fnmatch import fnmatchcase
from time import monotonic
from typing import TYPE_CHECKING, Any

from upshift.cache.dependencies import CURRENT
from upshift.cache.durations import seconds_of
from upshift.cache.functions import KeptError, entry_of, name_tag, namespace_tag
from upshift.cache.keys import MAX_TEXT, text_of
from upshift.errors import CacheKeyError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from upshift.cache.durations import Duration
    from upshift.cache.functions import Store
    from upshift.cache.memory import Key

NAMESPACE = "values"
"""The namespace of values that are given none."""


class Values:
    """What `Cache` and `AsyncCache` do with values by name.

    Args:
        store_of: returns what works with the values of a namespace.
    """

    def __init__(self, store_of: Callable[[str], Store]) -> None:
        self._store_of = store_of

    def get(self, key: str, default: Any, namespace: str) -> Any:
        """Return a value, if one is kept that holds."""
        store = self._store_of(namespace)
        outer, entry = CURRENT.get(), store.memory.entries.get(_key(namespace, key))
        if entry is not None:
            if outer is not None:
                outer.need(entry.tags)  # first: what is written after this is not in the value
            if not store.tokens.holds(entry.stamp):
                store.statistics.stale_prevented += 1
                store.memory.remove(entry)
            elif entry.expires <= monotonic():
                store.statistics.expired += 1
                store.memory.remove(entry)
            elif type(entry.value) is not KeptError:
                entry.reads += 1
                store.statistics.hits += 1
                return entry.value
        store.statistics.misses += 1
        return default

    def set(self, key: str, value: Any, ttl: Duration | None, tags: Iterable[str], namespace: str) -> bool:
        """Keep a value."""
        store = self._store_of(namespace)
        told = store.dependence([namespace_tag(namespace), *map(name_tag, tags)])
        entry = entry_of(_key(namespace, key), value, told, None if ttl is None else seconds_of(ttl))
        return store.keep(entry, told.refusal) is not None

    def get_many(self, keys: Iterable[str], namespace: str) -> dict[str, Any]:
        """Return those of some values that are kept and hold."""
        absent = object()
        found = {key: self.get(key, absent, namespace) for key in keys}
        return {key: value for key, value in found.items() if value is not absent}

    def set_many(
        self, values: Mapping[str, Any], ttl: Duration | None, tags: Iterable[str], namespace: str
    ) -> int:
        """Keep some values; return how many are kept."""
        named = tuple(tags)
        return sum(self.set(key, value, ttl, named, namespace) for key, value in values.items())

    def delete(self, key: str, namespace: str) -> bool:
        """Drop a value; return whether there was one."""
        return self._store_of(namespace).delete_one(_key(namespace, key))

    def delete_matching(self, pattern: str) -> int:
        """Drop the values whose names match a pattern; return how many there were."""
        return self._store_of(NAMESPACE).delete(lambda key: fnmatchcase(name_of(key), pattern))


def name_of(key: Key) -> str:
    """Return a key as people write it, for patterns.

    Example:
        >>> name_of(("values", "orders:7")), name_of(("shop.menu", 7))
        ('orders:7', 'shop.menu:7')
    """
    namespace, within = key
    return text_of(within) if namespace == NAMESPACE else f"{namespace}:{text_of(within)}"


def _key(namespace: str, key: str) -> Key:
    if not isinstance(key, str):
        raise CacheKeyError(f"the name of a value is a text, and {key!r} is none")
    if len(key) > MAX_TEXT:
        raise CacheKeyError(f"a key has {len(key)} characters, and may have {MAX_TEXT}")
    return namespace, key
