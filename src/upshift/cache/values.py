"""Values that are kept by a name, without a function that would load them.

Such a value is a source: what a cached function computes from it ends when another is set in its place. So
a name has a tag, which who looks depends on, also where nothing is found.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from time import monotonic
from typing import TYPE_CHECKING, Any

from upshift.cache.codec import codec_for, copies_of
from upshift.cache.dependencies import CURRENT
from upshift.cache.durations import seconds_of
from upshift.cache.functions import KeptError, entry_of, name_tag, namespace_tag, value_of
from upshift.cache.keys import MAX_TEXT, text_of
from upshift.cache.request import note_hit
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
        self._codec = codec_for()

    def get(self, key: str, default: Any, namespace: str) -> Any:
        """Return a value, if one is kept that holds."""
        store, outer, known = self._store_of(namespace), CURRENT.get(), key_of(namespace, key)
        if outer is not None:
            outer.need([value_tag(known)])  # first: what is written after this is not in the value
        entry = store.memory.entries.get(known)
        if entry is not None:
            if outer is not None:
                outer.need(entry.tags)
            if not store.tokens.holds(entry.stamp):
                store.statistics.stale_prevented += 1
                store.memory.remove(entry)
            elif entry.expires <= monotonic():
                store.statistics.expired += 1
                store.memory.remove(entry)
            elif type(entry.value) is not KeptError:
                entry.reads += 1
                store.statistics.hits += 1
                note_hit()
                return value_of(entry)
        store.statistics.misses += 1
        return default

    def set(self, key: str, value: Any, ttl: Duration | None, tags: Iterable[str], namespace: str) -> bool:
        """Keep a value.

        Raises:
            CodecError: it holds a mapped object, which would not come back as it is.
        """
        value = copies_of(value, self._codec) or value
        store, known = self._store_of(namespace), key_of(namespace, key)
        told = store.dependence([namespace_tag(namespace), *map(name_tag, tags)])
        entry = entry_of(known, value, told, None if ttl is None else seconds_of(ttl))
        is_kept = store.keep(entry, told.refusal) is not None
        store.renew([value_tag(known)])
        return is_kept

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
        store, known = self._store_of(namespace), key_of(namespace, key)
        was_there = store.delete_one(known)
        store.renew([value_tag(known)])
        return was_there

    def delete_matching(self, pattern: str) -> int:
        """Drop the values whose names match a pattern; return how many there were."""
        store = self._store_of(NAMESPACE)
        deleted = store.delete(lambda key: fnmatchcase(name_of(key), pattern))
        store.renew(map(value_tag, deleted))
        return len(deleted)


def name_of(key: Key) -> str:
    """Return a key as people write it, for patterns.

    Example:
        >>> name_of(("values", "orders:7")), name_of(("shop.menu", 7))
        ('orders:7', 'shop.menu:7')
    """
    namespace, within = key
    return text_of(within) if namespace == NAMESPACE else f"{namespace}:{text_of(within)}"


def value_tag(key: Key) -> str:
    """Return the tag that whatever is computed from the value of a name depends on."""
    return f"value:{name_of(key)}"


def key_of(namespace: str, key: str) -> Key:
    """Return the key of a value.

    Raises:
        CacheKeyError: its name is no text, or too long.
    """
    if not isinstance(key, str):
        raise CacheKeyError(f"the name of a value is a text, and {key!r} is none")
    if len(key) > MAX_TEXT:
        raise CacheKeyError(f"a key has {len(key)} characters, and may have {MAX_TEXT}")
    return namespace, key
