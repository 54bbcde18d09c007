"""The tier in memory: a dictionary bounded by entries and bytes, which evicts by S3-FIFO.

New entries go through a small queue; those that are read again before they reach its end move to the main
queue, the others leave and are remembered by key only. A key that comes back while it is remembered goes to
the main queue at once. (Yang et al., "FIFO queues are all you need for cache eviction", SOSP 2023.) A read
only counts, so hits take no lock; what changes the queues does.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from math import inf
from threading import Lock
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator

Key = tuple[str, "Hashable"]
"""A namespace, and what stands for a call within it."""

SMALL_SHARE = 0.1
"""Share of the entries that the small queue may hold."""

MOST_READS = 3
"""Reads that are counted of an entry: each lets it pass the end of the main queue once."""


class Entry:
    """A value in memory.

    Attributes:
        key: its key.
        value: the value.
        stamp: the tokens of what it depends on.
        tags: the names of that.
        expires: when its time is up, in seconds of the cache's clock.
        due: from when on a reader looks closer; always, where the value is not handed out as it is.
        renewal: from when on it is loaded anew, ahead of its end.
        made: when it was loaded.
        leased: until when it is served without a look at tokens that are on another machine.
        size: bytes it is counted as.
        reads: reads since it was last looked at, at most `MOST_READS`.
        is_main: whether it is in the main queue.
    """

    __slots__ = (
        "due",
        "expires",
        "is_main",
        "key",
        "leased",
        "made",
        "reads",
        "renewal",
        "size",
        "stamp",
        "tags",
        "value",
    )

    def __init__(  # noqa: PLR0913, PLR0917 - one for each attribute
        self,
        key: Key,
        value: Any,
        stamp: Any,
        tags: frozenset[str],
        expires: float,
        size: int,
    ) -> None:
        self.key = key
        self.value = value
        self.stamp = stamp
        self.tags = tags
        self.expires = expires
        self.size = size
        self.due = self.renewal = expires
        self.made = 0.0
        self.leased = 0.0
        self.reads = 0
        self.is_main = False

    def renew_from(self, moment: float) -> None:
        """Have it loaded anew from a moment on."""
        self.renewal = min(moment, self.expires)
        if self.due > -inf:
            self.due = self.renewal


class Usage:
    """What the entries of one namespace take.

    Attributes:
        entries: how many there are.
        bytes: what they take together.
        latest: the key of the last one that was put.
    """

    __slots__ = ("bytes", "entries", "latest")

    def __init__(self) -> None:
        self.entries = 0
        self.bytes = 0
        self.latest: Key | None = None


class Memory:
    """Entries by key.

    Args:
        max_entries: entries at most.
        max_bytes: bytes at most, as the entries tell them.
        evicted: is told of each entry that has to make room.

    Attributes:
        entries: the entries; read it as a dictionary, and count a read of an entry by its `reads`.
        bytes: what they take together.
        usage: what they take, by namespace; only of those that have entries.
        evictions: entries that made room.

    Example:
        >>> memory = Memory(max_entries=2, max_bytes=1_000)
        >>> for key in "abc":
        ...     memory.put(Entry(("letters", key), key.upper(), (), frozenset(), 0.0, 10))
        >>> sorted(memory.entries), memory.evictions
        ([('letters', 'b'), ('letters', 'c')], 1)
    """

    def __init__(
        self, max_entries: int, max_bytes: int, evicted: Callable[[Entry], None] | None = None
    ) -> None:
        self.entries: dict[Key, Entry] = {}
        self.bytes = 0
        self.usage: dict[str, Usage] = {}
        self.evictions = 0
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._evicted = evicted
        # Queues may hold entries that have been replaced or removed meanwhile; they are skipped.
        self._small: deque[Entry] = deque()
        self._main: deque[Entry] = deque()
        self._in_small = 0
        self._ghosts: OrderedDict[Key, None] = OrderedDict()
        self._lock = Lock()

    def put(self, entry: Entry) -> None:
        """Keep an entry in the place of its key's; one that is larger than the whole is not kept."""
        with self._lock:
            old = self.entries.get(entry.key)
            if old is not None:
                self._drop(old)
            if entry.size > self._max_bytes or not self._max_entries:
                return
            while self.entries and (
                len(self.entries) >= self._max_entries or self.bytes + entry.size > self._max_bytes
            ):
                self._evict()
            self.entries[entry.key] = entry
            self.bytes += entry.size
            usage = self.usage.setdefault(entry.key[0], Usage())
            usage.entries += 1
            usage.bytes += entry.size
            usage.latest = entry.key
            entry.is_main = entry.key in self._ghosts
            if entry.is_main:
                del self._ghosts[entry.key]
                self._main.append(entry)
            else:
                self._small.append(entry)
                self._in_small += 1
            self._sweep()

    def remove(self, entry: Entry) -> None:
        """Drop an entry, unless another has taken its place."""
        with self._lock:
            if self.entries.get(entry.key) is entry:
                self._drop(entry)

    def clear(self) -> None:
        """Drop everything."""
        with self._lock:
            self.entries.clear()
            self._small.clear()
            self._main.clear()
            self._ghosts.clear()
            self.usage.clear()
            self.bytes = self._in_small = 0

    def close(self) -> None:
        """Drop everything, and keep nothing from now on."""
        self._max_entries = 0
        self.clear()

    def _drop(self, entry: Entry) -> None:
        del self.entries[entry.key]
        self.bytes -= entry.size
        if not entry.is_main:
            self._in_small -= 1
        usage = self.usage[entry.key[0]]
        usage.entries -= 1
        usage.bytes -= entry.size
        if not usage.entries:
            del self.usage[entry.key[0]]

    def _evict(self) -> None:
        small_limit = max(1, int(self._max_entries * SMALL_SHARE))
        victim = self._from_small() if self._in_small >= small_limit else None
        victim = victim or self._from_main() or self._from_small()
        if victim is not None:
            self._drop(victim)
            self.evictions += 1
            if self._evicted is not None:
                self._evicted(victim)

    def _from_small(self) -> Entry | None:
        """Return the first entry that was not read again; others move to the main queue."""
        for entry in self._present(self._small):
            if not entry.reads:
                self._ghosts[entry.key] = None
                if len(self._ghosts) > self._max_entries:
                    self._ghosts.popitem(last=False)
                return entry
            entry.reads = 0
            entry.is_main = True
            self._in_small -= 1
            self._main.append(entry)
        return None

    def _from_main(self) -> Entry | None:
        for entry in self._present(self._main):
            if not entry.reads:
                return entry
            entry.reads = min(entry.reads, MOST_READS) - 1
            self._main.append(entry)
        return None

    def _present(self, queue: deque[Entry]) -> Iterator[Entry]:
        while queue:
            entry = queue.popleft()
            if self.entries.get(entry.key) is entry:
                yield entry

    def _sweep(self) -> None:
        """Take out what is no more, once that is the larger part of a queue: replacing must not grow it."""
        for queue in (self._small, self._main):
            if len(queue) > 2 * len(self.entries) + 100:
                present = [each for each in queue if self.entries.get(each.key) is each]
                queue.clear()
                queue.extend(present)
