"""Where stored answers are: in memory, and in Redis as well where the cache has one.

What asks Redis is written as plain functions, like the carriers of tokens. `Shelf.call` calls them so that
other tasks go on while they wait; without a Redis it only calls them.
"""

from __future__ import annotations

from math import inf
from time import monotonic, time
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from sqlalchemy.util import greenlet_spawn

from upshift.cache.memory import Entry
from upshift.cache.responses.gathering import Gathering
from upshift.cache.responses.keys import length_of
from upshift.cache.responses.stored import Stored

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from upshift.cache.dependencies import Reading
    from upshift.cache.functions.flights import Load
    from upshift.cache.memory import Key as MemoryKey
    from upshift.cache.redis.remote import Steps
    from upshift.cache.redis.shared import Shared
    from upshift.cache.responses.keys import Key
    from upshift.cache.responses.rules import Rule

_Result = TypeVar("_Result")

MAX_LIKELY = 16
"""Tags whose tokens are asked for with an answer."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Stored).decode


class Shelf:
    """Finds and keeps stored answers.

    Args:
        shared: what the cache shares with other processes; None where that is nothing.

    Attributes:
        is_remote: whether tokens are on another machine.
    """

    def __init__(self, shared: Shared | None) -> None:
        self.is_remote = shared is not None
        self._shared = shared

    async def call(self, function: Callable[..., _Result], *arguments: Any) -> _Result:  # noqa: ANN401 - its own
        """Call a function that may ask Redis, from a coroutine."""
        if self._shared is None:
            return function(*arguments)
        return await greenlet_spawn(function, *arguments)

    def gathering(self, rule: Rule, outer: Reading | None) -> Gathering:
        """Return what gathers the reads for an answer; tokens on another machine are yet to be stamped."""
        expected = () if self.is_remote else rule.expected
        return Gathering(rule.store.tokens, rule.store.now(), expected, outer)

    def stamp(self, rule: Rule, gathering: Gathering, told: tuple[str, ...]) -> None:
        """Note the tags that an answer surely depends on, and be ready for those that it is likely to."""
        shared = self._shared
        if shared is None:
            gathering.need(told)
            return
        tags = (*told, *rule.expected.difference(told))
        steps = shared.tokens.stamp_steps(tags)
        stamps = {} if _is_away(shared) else _finish(shared, steps) or {}
        early = {tag: (item,) for tag, item in stamps.items() if item is not None}
        gathering.expect(early, rule.store.now())
        gathering.inherit({tag: early.get(tag) for tag in told})

    def holds(self, rule: Rule, entry: Entry) -> bool | None:
        """Whether what an answer depends on is unchanged; None where nobody can tell."""
        if self._shared is None:
            return rule.store.tokens.holds(entry.stamp)
        return _finish(self._shared, self._shared.renew_steps(entry))

    def fetch(self, rule: Rule, key: Key, told: tuple[str, ...]) -> Entry | None:
        """Return an answer that another process has stored, which holds; None where there is none.

        Args:
            rule: what was told for its path.
            key: what stands for the request.
            told: tags that it surely depends on.
        """
        shared = self._shared
        if shared is None or _is_away(shared):
            return None
        likely = (*told, *sorted(rule.expected.difference(told)))[:MAX_LIKELY]
        found = _finish(shared, shared.tier.find_steps(_shared_key(rule, key), likely))
        if found is None:
            return None
        left = found.header.seconds_left(time())
        try:
            stored = _decode(found.payload)
        except (msgspec.DecodeError, ValueError):
            shared.tier.malformed += 1
            return None
        if left is not None and left <= 0:
            return None
        tags = frozenset(found.header.tags)
        expires = inf if left is None else monotonic() + left
        size = stored.size + length_of(key)
        entry = Entry((rule.pattern, key), stored, found.header.stamp(), tags, expires, size)
        entry.leased = found.asked + shared.lease
        rule.store.memory.put(entry)
        return entry

    def keep(self, rule: Rule, entry: Entry, load: Load[Any]) -> Entry | None:
        """Keep an answer, if what it depends on is unchanged; return it, or None."""
        shared, store = self._shared, rule.store
        if shared is None:
            return store.keep(entry, "", load)
        from upshift.cache.redis.shared import NOT_HELD

        seconds = None if entry.expires == inf else entry.expires - entry.made
        asked = monotonic()
        filling = shared.tier.fill_steps(
            _shared_key(rule, entry.key[1]), entry.stamp, _encode(entry.value), seconds, owner=""
        )
        if not _finish(shared, filling):
            store.statistics.refuse(NOT_HELD)
            return None
        entry.leased = asked + shared.lease
        return store.put(entry, load)

    def drop(self, rule: Rule, entry: Entry) -> None:
        """Give an answer to nobody any more."""
        rule.store.memory.remove(entry)
        if self._shared is not None:
            key = _shared_key(rule, entry.key[1])
            _finish(self._shared, self._shared.tier.delete_steps(key))


def _is_away(shared: Shared) -> bool:
    """Whether Redis has just failed, maybe for this very request, which it is to keep waiting only once."""
    return shared.remote.circuit.failures > 0


def _finish(shared: Shared, steps: Steps[_Result]) -> _Result | None:
    """Take steps to their end; None where Redis is away."""
    from upshift.cache.redis.wire import Unreachable

    try:
        return shared.remote.finish(steps)
    except Unreachable:
        return None


def _shared_key(rule: Rule, key: Hashable) -> MemoryKey:
    """Return a key that means the same to a process that knows of other fields that answers vary by."""
    return rule.pattern, (rule.names, key)
