"""Writes that are in the journal and not yet in the database: of each key the last one, in their order."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from upshift.cache.writes.records import Key

OVERHEAD = 300
"""Bytes that a write is counted as beside its value and the texts of its key, about."""


class Waiting:
    """A write that waits to be flushed.

    Attributes:
        number: its place among the writes of the journal.
        key: what it is for.
        data: the value as bytes.
        since: when it was put, in seconds of the process's clock.
        segment: the number of the journal's file in which it is.
        is_in_flight: whether it is being flushed.
        failures: how often it failed to be flushed alone.
        retried: when it is tried again, in seconds of the process's clock.
        successes: how many batches had been flushed when it last failed.
        proofs: how often it failed though another one had succeeded since it failed before.
    """

    __slots__ = (
        "data", "failures", "is_in_flight", "key", "number", "proofs", "retried", "segment", "since",
        "successes",
    )  # fmt: skip

    def __init__(self, number: int, key: Key, data: bytes, since: float, segment: int) -> None:
        self.number = number
        self.key = key
        self.data = data
        self.since = since
        self.segment = segment
        self.is_in_flight = False
        self.failures = 0
        self.retried = 0.0
        self.successes = 0
        self.proofs = 0

    @property
    def size(self) -> int:
        """Bytes that it is counted as."""
        return size_of(self.key, self.data)


class Pending:
    """The writes that wait. It has no lock: whoever uses it holds one.

    Attributes:
        entries: the last write of each key, in the order in which they are to be flushed.
        bytes: what they take, about.

    Example:
        >>> pending = Pending()
        >>> pending.put(Waiting(1, "stock:7", b"12", 0.0, segment=1))
        False
        >>> pending.put(Waiting(2, "stock:7", b"11", 0.0, segment=1))
        True
        >>> [write.data for write in pending.batch(100)]
        [b'11']
    """

    def __init__(self) -> None:
        self.entries: dict[Key, Waiting] = {}
        self.bytes = 0
        self._failed: dict[Key, Waiting] = {}
        self._segments: dict[int, int] = {}

    def put(self, write: Waiting) -> bool:
        """Let a write wait, in the place of one of the same key; return whether there was one."""
        old = self.entries.get(write.key)
        if old is not None:
            # One that is put again and again while it is flushed must not keep those behind it waiting.
            if old.is_in_flight:
                del self.entries[write.key]
            else:
                write.since = old.since
            self._forget(old)
        self.entries[write.key] = write
        self.bytes += write.size
        self._segments[write.segment] = self._segments.get(write.segment, 0) + 1
        return old is not None

    def remove(self, write: Waiting) -> None:
        """Let a write go that is in the database, unless another has taken its place."""
        write.is_in_flight = False
        if self.entries.get(write.key) is write:
            del self.entries[write.key]
            self._forget(write)

    def batch(self, most: int) -> list[Waiting]:
        """Return the writes to be flushed next, of those that have not failed."""
        return list(islice((write for write in self.entries.values() if not write.failures), most))

    def failed(self, now: float) -> Waiting | None:
        """Return a write that has failed and is to be tried again; None if there is none."""
        return next((write for write in self._failed.values() if write.retried <= now), None)

    def fail(self, write: Waiting) -> None:
        """Have a write tried again alone, unless another has taken its place."""
        if self.entries.get(write.key) is write:
            self._failed[write.key] = write

    def next_retry(self) -> float | None:
        """Return when the next write that has failed is tried again; None if none has."""
        return min((write.retried for write in self._failed.values()), default=None)

    def move(self, write: Waiting, segment: int) -> None:
        """Note that a write stands in a later file as well."""
        self._leave(write.segment)
        write.segment = segment
        self._segments[segment] = self._segments.get(segment, 0) + 1

    def within(self, segment: int) -> list[Waiting]:
        """Return the writes that stand in a file."""
        return [write for write in self.entries.values() if write.segment == segment]

    def oldest_segment(self) -> int | None:
        """Return the number of the oldest file in which there is one; None if there is none."""
        return min(self._segments, default=None)

    def _forget(self, write: Waiting) -> None:
        self.bytes -= write.size
        self._failed.pop(write.key, None)
        self._leave(write.segment)

    def _leave(self, segment: int) -> None:
        self._segments[segment] -= 1
        if not self._segments[segment]:
            del self._segments[segment]


def size_of(key: Key, data: bytes) -> int:
    """Return the bytes that a write is counted as."""
    parts = key if isinstance(key, tuple) else (key,)
    return OVERHEAD + len(data) + sum(len(part) for part in parts if isinstance(part, str))
