"""Tokens of one process, for all of its threads and event loops.

A token is an object without content: nothing else is the same object as long as somebody holds it, and an
entry's stamp does. A tag lives as long as a stamp or an intent refers to it, so there are never more tags
than the entries of the cache have.
"""

from __future__ import annotations

from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from upshift.cache.tokens.carrier import INTENT_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


class Tag:
    """A tag in memory.

    Attributes:
        token: None while a transaction is about to write.
        intents: when the intent of each such transaction ends, in seconds of the clock.
    """

    __slots__ = ("__weakref__", "intents", "token")

    def __init__(self) -> None:
        self.token: object | None = object()
        self.intents: dict[str, float] = {}


Stamp = tuple[tuple[Tag, object], ...]


class LocalTokens:
    """A carrier for one process.

    Args:
        intent_seconds: how long an intent that nobody settles lasts.
        clock: seconds that never go back.

    Example:
        >>> tokens = LocalTokens()
        >>> stamp = tokens.stamp(["product"])
        >>> tokens.holds(stamp)
        True
        >>> tokens.announce(["product"], "transaction 1")
        >>> tokens.holds(stamp), tokens.stamp(["product"])
        (False, None)
        >>> tokens.settle(["product"], "transaction 1")
        >>> tokens.holds(stamp), tokens.holds(tokens.stamp(["product"]))
        (False, True)
    """

    def __init__(
        self, intent_seconds: float = INTENT_SECONDS, clock: Callable[[], float] = monotonic
    ) -> None:
        self._tags: WeakValueDictionary[str, Tag] = WeakValueDictionary()
        self._announced: dict[str, Tag] = {}
        self._intent_seconds = intent_seconds
        self._clock = clock
        self._lock = Lock()

    def stamp(self, tags: Iterable[str]) -> Stamp | None:
        """Return the tokens of tags; None where one is gone."""
        with self._lock:
            stamp = []
            for name in tags:
                tag = self._tag(name)
                if tag.intents:
                    self._forget_old(name, tag)
                if tag.token is None:
                    return None
                stamp.append((tag, tag.token))
            return tuple(stamp)

    def holds(self, stamp: Stamp) -> bool:
        """Whether every tag has the very token of a stamp still."""
        # No lock: an announcement that is not over yet belongs to a commit that is not acknowledged yet.
        for tag, token in stamp:  # noqa: SIM110 - a generator costs more than the comparison
            if tag.token is not token:
                return False
        return True

    def announce(self, tags: Iterable[str], transaction: str) -> None:
        """Take the tokens of tags away."""
        with self._lock:
            ends = self._clock() + self._intent_seconds
            for name in tags:
                tag = self._tag(name)
                tag.intents[transaction] = ends
                tag.token = None
                self._announced[name] = tag

    def settle(self, tags: Iterable[str], transaction: str) -> None:
        """Give tags new tokens, once no other transaction is about to write to them."""
        with self._lock:
            for name in tags:
                tag = self._announced.get(name)
                if tag is not None and tag.intents.pop(transaction, None) is not None:
                    self._renew(name, tag)

    def _tag(self, name: str) -> Tag:
        tag = self._tags.get(name)
        if tag is None:
            tag = self._tags[name] = Tag()
        return tag

    def _forget_old(self, name: str, tag: Tag) -> None:
        now = self._clock()
        tag.intents = {transaction: ends for transaction, ends in tag.intents.items() if ends > now}
        self._renew(name, tag)

    def _renew(self, name: str, tag: Tag) -> None:
        if not tag.intents:
            tag.token = object()
            del self._announced[name]
