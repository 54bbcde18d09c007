"""Values that all processes keep by a name: in Redis alone, so that of two that are set one is there."""

from __future__ import annotations

from time import time
from typing import TYPE_CHECKING, Any

from upshift.cache.codec import codec_for
from upshift.cache.dependencies import CURRENT
from upshift.cache.durations import seconds_of
from upshift.cache.functions import name_tag, namespace_tag
from upshift.cache.redis.shared import NOT_HELD, inherit
from upshift.cache.redis.wire import Unreachable
from upshift.cache.request import note_hit
from upshift.cache.values import Values, key_of, value_tag
from upshift.errors import CodecError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from upshift.cache.durations import Duration
    from upshift.cache.functions import Store
    from upshift.cache.redis.shared import Shared


class SharedValues(Values):
    """What a cache in Redis does with values by name.

    Args:
        store_of: returns what works with the values of a namespace.
        shared: what all processes share.
    """

    def __init__(self, store_of: Callable[[str], Store], shared: Shared) -> None:
        super().__init__(store_of)
        self._shared = shared
        self._codec = codec_for(None, plans=shared.plans)

    def get(self, key: str, default: Any, namespace: str) -> Any:
        """Return a value, if one is kept that holds."""
        shared, store, known = self._shared, self._store_of(namespace), key_of(namespace, key)
        outer = CURRENT.get()
        if outer is not None:
            outer.need([value_tag(known)])  # first: what is written after this is not in the value
        try:
            found = shared.remote.finish(shared.tier.find_steps(known, (namespace_tag(namespace),)))
        except Unreachable:
            found = None
        left = None if found is None else found.header.seconds_left(time())
        if found is not None and (left is None or left > 0):
            try:
                value = self._codec.decode(found.payload)
            except CodecError:
                shared.tier.malformed += 1
            else:
                inherit(found.stamp)
                store.statistics.hits += 1
                note_hit()
                return value
        store.statistics.misses += 1
        return default

    def set(self, key: str, value: Any, ttl: Duration | None, tags: Iterable[str], namespace: str) -> bool:
        """Keep a value.

        Raises:
            CodecError: it would not come back as it is.
        """
        shared, store, known = self._shared, self._store_of(namespace), key_of(namespace, key)
        payload = self._codec.encode(value)
        told = store.dependence([namespace_tag(namespace), *map(name_tag, tags)])
        seconds = None if ttl is None else seconds_of(ttl)
        is_kept = not told.refusal and shared.remote.finish(
            shared.tier.fill_steps(known, told.stamp, payload, seconds, "")
        )
        if is_kept:
            store.statistics.fills += 1
        else:
            store.statistics.refuse(told.refusal or NOT_HELD)
        store.renew([value_tag(known)])
        return is_kept

    def delete(self, key: str, namespace: str) -> bool:
        """Drop a value; return whether there was one."""
        known = key_of(namespace, key)
        was_there = self._shared.remote.finish(self._shared.tier.delete_steps(known))
        self._store_of(namespace).renew([value_tag(known)])
        return was_there

    def delete_matching(self, pattern: str) -> int:
        """Drop what matches a pattern, here and in Redis; return how many entries there were in Redis."""
        super().delete_matching(pattern)
        return self._shared.remote.finish(self._shared.tier.delete_matching_steps(pattern))
