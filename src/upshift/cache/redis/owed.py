"""What a process has to tell Redis yet: intents of its transactions, and their ends.

Each transaction is written down before its intent is sent, and struck out when its end has been told. What is
left is sent again by the heartbeat: after an outage, and whenever the fence is a new one, since then the
server may have lost what it was told.
"""

from __future__ import annotations

from concurrent.futures import Future
from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_TAGS = 4_096
"""Tags written during an outage that are remembered; with more of them, all tags get new tokens."""


class Writing:
    """A transaction that has written, and is about to commit or has.

    Attributes:
        transaction: its id.
        tags: what it has written.
        ends: when its intent ends, in seconds of the process's clock.
        is_announced: whether Redis has acknowledged its intent.
        has_failed: whether its intent could not be sent, and is to be sent yet.
        is_over: whether it has committed or never will.
        told: done when nothing that is older than its commit can be served any more.
    """

    __slots__ = ("ends", "has_failed", "is_announced", "is_over", "tags", "told", "transaction")

    def __init__(self, transaction: str, tags: tuple[str, ...], ends: float) -> None:
        self.transaction = transaction
        self.tags = tags
        self.ends = ends
        self.is_announced = False
        self.has_failed = False
        self.is_over = False
        self.told: Future[None] = Future()


class Owed:
    """The transactions of one process whose end Redis has not been told.

    Args:
        intent_seconds: how long an intent lasts.
        clock: seconds that never go back.
    """

    def __init__(self, intent_seconds: float, clock: Callable[[], float]) -> None:
        self._intent_seconds = intent_seconds
        self._clock = clock
        self._lock = Lock()
        self._writings: dict[str, Writing] = {}
        self._missed: set[str] = set()
        self._missed_all = False

    def begin(self, transaction: str, tags: tuple[str, ...]) -> Writing:
        """Write a transaction down."""
        with self._lock:
            writing = Writing(transaction, tags, self._clock() + self._intent_seconds)
            self._writings[transaction] = writing
            return writing

    def get(self, transaction: str) -> Writing | None:
        """Return a transaction that is written down."""
        return self._writings.get(transaction)

    def strike(self, writing: Writing) -> None:
        """Strike a transaction out, and let go who waits for that."""
        with self._lock:
            self._writings.pop(writing.transaction, None)
            if not writing.told.done():
                writing.told.set_result(None)

    def miss(self, writing: Writing) -> None:
        """Strike out a transaction that was not told of, as there was nobody to be told."""
        with self._lock:
            if len(self._missed) + len(writing.tags) > MAX_TAGS:
                self._missed_all = True
            else:
                self._missed.update(writing.tags)
        self.strike(writing)

    def all(self) -> list[Writing]:
        """Return the transactions that are written down, without those whose intents have ended."""
        now = self._clock()
        with self._lock:
            for writing in [each for each in self._writings.values() if each.ends <= now]:
                del self._writings[writing.transaction]
                if not writing.told.done():
                    writing.told.set_result(None)
            return list(self._writings.values())

    def take_missed(self) -> tuple[frozenset[str], bool]:
        """Return the tags that were missed, and whether there were too many to remember."""
        with self._lock:
            missed, missed_all = frozenset(self._missed), self._missed_all
            self._missed.clear()
            self._missed_all = False
            return missed, missed_all

    def put_back(self, missed: frozenset[str], *, missed_all: bool) -> None:
        """Remember again what could not be told after all."""
        with self._lock:
            self._missed |= missed
            self._missed_all |= missed_all
