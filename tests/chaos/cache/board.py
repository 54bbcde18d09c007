"""What has been acknowledged, in memory that all processes of a run share; reads are judged by it.

What is claimed is that a read is at least as new as the last commit that was acknowledged before it began.
No process can see two things of another at once, so the order in which each looks and tells makes the
judgement sound:

    ==========  ==============================================================================================
    a writer    COMMIT returns; *then* it tells the board the versions that it has written.
    a reader    reads the board; *then* it begins; what it gets is compared with what the board said before.
    ==========  ==============================================================================================

What is on the board was acknowledged before it was put there, and the reader found it there before it began.
So a version that is older than the board's is a violation whatever the two were doing meanwhile, stopped for
a second or not: there are no false alarms. The other order of either would make some: a writer that tells
first promises what may not come, and a reader that begins first is blamed for what came while it read.

What this misses is the time between the return of COMMIT and the word on the board: microseconds, or until
SIGCONT. A writer that is killed there has told nobody, and neither it nor the board can say that it was
acknowledged. Two things make up for that:

*Reads tell as well.* Whoever has read a version tells it, and what begins after that ought not to read an
older one. That is more than is claimed, and yet true while every commit is announced, as nothing is served
from the time before COMMIT is sent until it is settled. Such reads are counted apart, as *regressed*. It
finds what a killed writer leaves behind: a commit that nobody acknowledged and everybody can see.

*Many writers.* Each row is written by all of them, so the next acknowledgement comes within milliseconds.

Versions of a row are given by the database, under its lock, so each has one writer; a transaction whose
COMMIT ended with an error tells nothing, as nobody knows. Each process has a column of its own, which it
alone writes, under a lock of its own; a row's version is the greatest of them. Words are eight bytes in
their place, so they are read and written as one. Loads must not overtake later ones: they do not on x86, and
elsewhere the interpreter's own locks are between.

Clocks decide nothing where a read has to hold at once. For a lease, the time of each version is kept beside
it, by the one clock of the host: taken after COMMIT returned, and before a read began. So an age is never
found greater than it was.
"""

from __future__ import annotations

import mmap
import threading
from enum import IntEnum
from time import monotonic_ns
from typing import NamedTuple

WORKERS = 4
LANES = 8
"""Threads of a worker, or tasks of one thread that count together."""

VERSIONS = 1 << 13
"""Versions of a row whose time is remembered."""


class Count(IntEnum):
    """What each lane counts; none is lost when its process is killed."""

    READS = 0
    WRITES = 1
    STALE = 2
    REGRESSED = 3
    DIRTY = 4
    AMBIGUOUS = 5
    FAILED = 6
    OLDEST = 7  # the greatest age of what was read and was not the newest, in nanoseconds
    HITS = 8
    COMMITTING = 9  # whether a transaction is between the beginning of COMMIT and the word on the board


class Floor(NamedTuple):
    """What is known of a row.

    Attributes:
        acknowledged: the version that the last commit has written.
        seen: the newest that somebody has read.
    """

    acknowledged: int
    seen: int


class Board:
    """The shared memory; made before the workers are forked.

    Args:
        rows: how many rows there are.
    """

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self._columns = 1
        self._counts = self._columns + rows * 2 * WORKERS
        self._acknowledged_at = self._counts + WORKERS * LANES * len(Count)
        self._seen_at = self._acknowledged_at + rows * VERSIONS
        size = self._seen_at + rows * VERSIONS
        self._words = memoryview(mmap.mmap(-1, size * 8)).cast("Q")
        self._words[0] = 1
        self._lock = threading.Lock()

    def goes_on(self) -> bool:
        return bool(self._words[0])

    def end(self) -> None:
        self._words[0] = 0

    def floor(self, row: int) -> Floor:
        """Return what is known of a row, to be asked before a read of it begins."""
        at = self._columns + row * 2 * WORKERS
        words = self._words
        return Floor(max(words[at : at + WORKERS]), max(words[at + WORKERS : at + 2 * WORKERS]))

    def acknowledge(self, worker: int, versions: dict[int, int]) -> None:
        """Tell that COMMIT has returned of a transaction that wrote these versions of rows."""
        self._tell(worker, versions, self._acknowledged_at, 0)

    def see(self, worker: int, versions: dict[int, int]) -> None:
        """Tell that a read has returned these versions of rows."""
        self._tell(worker, versions, self._seen_at, WORKERS)

    def age(self, row: int, version: int, newest: int, began: int, *, of_seen: bool = False) -> int:
        """Return how long a version had been followed by another when a read began, in nanoseconds."""
        base = (self._seen_at if of_seen else self._acknowledged_at) + row * VERSIONS
        times = [self._words[base + each % VERSIONS] for each in range(version + 1, newest + 1)]
        return max((began - each for each in times if each), default=0)

    def count(self, worker: int, lane: int, what: Count) -> int:
        return self._words[self._place(worker, lane, what)]

    def set_count(self, worker: int, lane: int, what: Count, value: int) -> None:
        self._words[self._place(worker, lane, what)] = value

    def total(self, what: Count) -> int:
        return sum(self.count(worker, lane, what) for worker in range(WORKERS) for lane in range(LANES))

    def oldest(self) -> int:
        return max(
            self.count(worker, lane, Count.OLDEST) for worker in range(WORKERS) for lane in range(LANES)
        )

    def is_committing(self, worker: int) -> bool:
        return any(self.count(worker, lane, Count.COMMITTING) for lane in range(LANES))

    def _place(self, worker: int, lane: int, what: Count) -> int:
        return self._counts + (worker * LANES + lane) * len(Count) + what

    def _tell(self, worker: int, versions: dict[int, int], times: int, column: int) -> None:
        now = monotonic_ns()
        with self._lock:  # forked, so each process has its own
            for row, version in versions.items():
                time_at = times + row * VERSIONS + version % VERSIONS
                self._words[time_at] = self._words[time_at] or now
                at = self._columns + row * 2 * WORKERS + column + worker
                self._words[at] = max(self._words[at], version)
