"""What cached functions and values work with, and how a value comes to be kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import msgspec

from upshift.cache.dependencies import CURRENT, Reading, written_here

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from upshift.cache.functions.background import Background
    from upshift.cache.functions.flights import Flights, Load
    from upshift.cache.memory import Entry, Key, Memory
    from upshift.cache.statistics import Statistics
    from upshift.cache.tokens import Carrier


def name_tag(tag: str) -> str:
    """Return the tag that a name of the application's stands for: never that of a table."""
    return f"name:{tag}"


def namespace_tag(namespace: str) -> str:
    """Return the tag that every entry of a namespace depends on."""
    return f"namespace:{namespace}"


class Dependence(msgspec.Struct, frozen=True):
    """What a value depends on.

    Attributes:
        tags: the names of that.
        stamp: their tokens from before it was read.
        refusal: why the value may not be kept; empty where it may.
    """

    tags: frozenset[str]
    stamp: tuple[Any, ...]
    refusal: str


@dataclass(frozen=True, slots=True)
class Store:
    """What the functions and values of a cache share, with the statistics of one namespace.

    Attributes:
        tokens: where tokens live.
        memory: where entries do.
        now: numbers moments in the order in which they come.
        flights: the loads under way.
        background: runs those that nobody waits for.
        statistics: counts what happens.
    """

    tokens: Carrier[tuple[Any, ...]]
    memory: Memory
    now: Callable[[], int]
    flights: Flights
    background: Background
    statistics: Statistics

    def keep(self, entry: Entry, refusal: str, load: Load[Any] | None = None) -> Entry | None:
        """Keep an entry, if it may be; None where it is not, which is counted by its reason."""
        if not refusal and not self.tokens.holds(entry.stamp):
            refusal = "what it depends on was written meanwhile"
        if not refusal:
            return self.put(entry, load)
        self.statistics.refuse(refusal)
        return None

    def put(self, entry: Entry, load: Load[Any] | None = None) -> Entry | None:
        """Keep an entry that holds; None where its key was deleted while it was loaded."""
        self.memory.put(entry)
        if load is None or not load.is_unwanted:
            self.statistics.fills += 1
            return entry
        # Looked at last: who deletes marks the load first, and then removes what is there.
        self.memory.remove(entry)
        self.statistics.refuse("it was deleted meanwhile")
        return None

    def dependence(self, tags: Iterable[str]) -> Dependence:
        """Return what a value depends on that is told instead of loaded.

        It is what has been read so far in the running cached function, or block of `Cache.loading`, and
        these tags, from now on.
        """
        told = Reading(self.tokens, self.now())
        told.need(tags)
        read = CURRENT.get()
        if written_here():
            told.refuse("its transaction writes")
        if read is None:
            return Dependence(told.tags, told.stamp, told.refusal)
        return Dependence(read.tags | told.tags, read.stamp + told.stamp, read.refusal or told.refusal)

    def renew(self, tags: Iterable[str]) -> None:
        """Give tags new tokens: nothing is served any more that depends on them as they were."""
        named, transaction = tuple(tags), uuid4().hex
        self.tokens.announce(named, transaction)
        self.tokens.settle(named, transaction)

    def delete(self, is_meant: Callable[[Key], bool]) -> list[Key]:
        """Drop the entries of some keys, and what is being loaded for them; return which there were."""
        self.flights.disown(is_meant)
        entries = [entry for key, entry in tuple(self.memory.entries.items()) if is_meant(key)]
        for entry in entries:
            self.memory.remove(entry)
        return [entry.key for entry in entries]

    def delete_one(self, key: Key) -> bool:
        """Drop the entry of a key, and what is being loaded for it; return whether there was one."""
        self.flights.disown(key.__eq__)
        entry = self.memory.entries.get(key)
        if entry is not None:
            self.memory.remove(entry)
        return entry is not None
