"""Tokens of several processes on one host, in a file that all of them have mapped.

Validating an entry reads eight bytes for each of its tags, and makes no system call. Whoever changes
something holds the file's lock, which the kernel takes from the dead.

The file has a fixed size. A tag has one of `SLOTS` tokens, by a hash of its name; tags that share one are
invalidated together, which costs hits and nothing else. Intents stand in a list behind the tokens. Each has
an owner: a number whose byte in the file its process keeps locked, so that the living are told from the dead
by the kernel. An intent of the dead ends after `GRACE_SECONDS`, within which the database has done with what
its client had sent.

Where the lock cannot be had in time, since its holder was stopped, or the list is full, nobody may stamp
anything for as long as an intent lasts: `closed_until` in the header says so, in one write. Nothing is
served then that was kept before for the tags that are written, and the writer does not wait.

A map whose file is truncated is the death of its readers, so the file belongs to one user, is no link, and
its space is reserved when it is made.
"""

from __future__ import annotations

import mmap
import os
import struct
import time
from contextlib import contextmanager
from hashlib import blake2b
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple
from weakref import finalize

from upshift.cache.tokens.carrier import INTENT_SECONDS
from upshift.errors import SettingsError
from upshift.locks import is_locked, lock_byte, open_own, try_lock, unlock
from upshift.record.fork import after_fork

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

SLOTS = 1 << 16
MAX_INTENTS = 1 << 13
MAX_OWNERS = 1 << 10
LOCK_SECONDS = 0.25
"""How long to wait for the file's lock, in seconds."""

GRACE_SECONDS = 5.0
"""How long after its process died an intent lasts: COMMIT may have been sent, and not be done yet."""

_MAGIC = b"UPSHIFT\x1d"
_VERSION = 1
_PAGE = 4096
_INTENTS_AT = _PAGE + 8 * SLOTS
_INTENT = struct.Struct("=IIQQ")  # slot, owner, transaction, and when it ends, in nanoseconds of the clock
_SIZE = _INTENTS_AT + MAX_INTENTS * _INTENT.size
_OWNERS_AT = 1 << 32  # bytes that are only locked; the file does not reach so far
_DEAD = 0xFFFF_FFFF
# Numbers of eight bytes in the header, by position.
_IS_MADE, _COUNT, _CLOSED_UNTIL = 1, 2, 3
_FIRST_SLOT = _PAGE // 8


class _Intent(NamedTuple):
    slot: int
    owner: int
    transaction: int
    ends: int


Stamp = tuple[tuple[int, int], ...]


class PageTokens:
    """A carrier for the processes of one host.

    Args:
        path: the file that they share; it is made where it is not there.
        intent_seconds: how long an intent that nobody settles lasts.
        clock: nanoseconds that never go back and are the same for all processes.

    Raises:
        SettingsError: the file cannot be used, or is none of ours.

    Attributes:
        faults: times when the lock could not be had, or the list was full.
    """

    def __init__(
        self,
        path: Path,
        intent_seconds: float = INTENT_SECONDS,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.faults = 0
        self._path = path
        self._intent = int(intent_seconds * 1e9)
        # What ends later than that was written before the clock began anew, with the host.
        self._longest = 2 * self._intent
        self._clock = clock
        self._threads = Lock()
        self._map: mmap.mmap
        self._words: memoryview[int]
        self._open()
        after_fork(self._reopen)

    def stamp(self, tags: Iterable[str]) -> Stamp | None:
        """Return the tokens of tags; None where one is gone."""
        stamp = []
        for slot in map(_slot, tags):
            token = self._words[_FIRST_SLOT + slot] or self._revived(slot)
            if not token:
                return None
            stamp.append((_FIRST_SLOT + slot, token))
        # Last: who closes does so before it takes tokens away, so no token of the time after passes here.
        return None if self._words[_CLOSED_UNTIL] and self._is_closed() else tuple(stamp)

    def holds(self, stamp: Stamp) -> bool:
        """Whether every tag has the very token of a stamp still."""
        words = self._words
        for place, token in stamp:  # noqa: SIM110 - a generator costs more than the comparison
            if words[place] != token:
                return False
        return True

    def announce(self, tags: Iterable[str], transaction: str) -> None:
        """Take the tokens of tags away."""
        slots = set(map(_slot, tags))
        ends = self._clock() + self._intent
        with self._locked() as is_locked:
            count = self._words[_COUNT]
            if is_locked and count + len(slots) <= MAX_INTENTS:
                for number, slot in enumerate(slots, count):
                    self._write(number, _Intent(slot, self._owner, _number(transaction), ends))
                self._words[_COUNT] = count + len(
                    slots
                )  # before the tokens: who is killed here leaves an intent
            else:
                self.faults += 1
                self._words[_CLOSED_UNTIL] = max(self._words[_CLOSED_UNTIL], ends)
            for slot in slots:
                self._words[_FIRST_SLOT + slot] = 0

    def settle(self, tags: Iterable[str], transaction: str) -> None:
        """Give tags new tokens, once no other transaction is about to write to them."""
        slots, number = set(map(_slot, tags)), _number(transaction)
        with self._locked() as is_locked:
            if not is_locked:
                self.faults += 1  # the intents end by themselves
                return
            intents = self._intents()
            settled = [each for each in intents if each.transaction == number and each.slot in slots]
            if settled:
                left = [each for each in intents if each not in settled]
                self._write_all(left)
                for slot in {each.slot for each in settled} - {each.slot for each in left}:
                    self._words[_FIRST_SLOT + slot] = _new_token()

    def close(self) -> None:
        """Let go of the file, as happens when nobody refers to this any more. Twice does nothing more."""
        if self._closing.alive:
            self._words.release()
            self._map.close()
            self._closing()

    def _open(self) -> None:
        try:
            self._file = open_own(self._path, os.O_RDWR | os.O_CREAT)
        except OSError as error:
            raise SettingsError(f"the cache's page {self._path} cannot be used: {error}") from error
        self._closing = finalize(self, os.close, self._file)
        with self._locked(seconds=10 * LOCK_SECONDS) as is_locked:
            if not is_locked:
                raise SettingsError(f"the cache's page {self._path} is locked by a process that hangs")
            is_new = os.fstat(self._file).st_size == 0
            if is_new:
                os.posix_fallocate(self._file, 0, _SIZE)
            elif os.fstat(self._file).st_size != _SIZE:
                raise SettingsError(f"{self._path} is no page of this version of Upshift's cache: remove it")
            self._map = mmap.mmap(self._file, _SIZE)
            self._words = memoryview(self._map).cast("Q")
            if not self._words[_IS_MADE]:
                self._map[_PAGE : _PAGE + 8 * SLOTS] = os.urandom(8 * SLOTS)
                self._map[: len(_MAGIC)] = _MAGIC
                self._words[_IS_MADE] = _VERSION
            elif self._map[: len(_MAGIC)] != _MAGIC or self._words[_IS_MADE] != _VERSION:
                raise SettingsError(f"{self._path} is no page of this version of Upshift's cache: remove it")
            self._owner = self._own()

    def _reopen(self) -> None:
        """In a forked child: have a file and an owner of its own, as locks of the parent's are not."""
        if self._closing.alive:
            self._threads = Lock()
            self.close()
            self._open()

    def _own(self) -> int:
        """Take an owner's number; what a dead process of that number announced is not this one's."""
        for owner in range(MAX_OWNERS):
            if lock_byte(self._file, _OWNERS_AT + owner):
                limit = self._clock() + int(GRACE_SECONDS * 1e9)
                self._write_all(
                    [
                        each._replace(owner=_DEAD, ends=min(each.ends, limit))
                        if each.owner == owner
                        else each
                        for each in self._intents()
                    ]
                )
                return owner
        raise SettingsError(f"more than {MAX_OWNERS} processes share the cache's page {self._path}")

    def _revived(self, slot: int) -> int:
        """Give a tag a new token if no intent for it lasts any more, and return it; 0 where one does."""
        with self._locked() as is_held:
            if not is_held:
                self.faults += 1
                return 0
            now = self._clock()
            limit = now + int(GRACE_SECONDS * 1e9)
            left = []
            for each in self._intents():
                kept = each
                is_dead = each.owner not in {self._owner, _DEAD} and not is_locked(
                    self._file, _OWNERS_AT + each.owner, 1
                )
                if is_dead:
                    kept = each._replace(owner=_DEAD, ends=min(each.ends, limit))
                if now < kept.ends <= now + self._longest:
                    left.append(kept)
            self._write_all(left)
            if any(each.slot == slot for each in left):
                return 0
            token = self._words[_FIRST_SLOT + slot]
            if not token:  # else another was faster
                token = self._words[_FIRST_SLOT + slot] = _new_token()
            return token

    def _is_closed(self) -> bool:
        until = self._words[_CLOSED_UNTIL]
        now = self._clock()
        return now < until <= now + self._longest

    def _intents(self) -> list[_Intent]:
        count = min(self._words[_COUNT], MAX_INTENTS)
        data = self._map[_INTENTS_AT : _INTENTS_AT + count * _INTENT.size]
        return [_Intent(*each) for each in _INTENT.iter_unpack(data)]

    def _write(self, number: int, intent: _Intent) -> None:
        _INTENT.pack_into(self._map, _INTENTS_AT + number * _INTENT.size, *intent)

    def _write_all(self, intents: list[_Intent]) -> None:
        # Never fewer than there are, if the process is killed in the midst of this: too many are only misses.
        for number, intent in enumerate(intents):
            self._write(number, intent)
        self._words[_COUNT] = len(intents)

    @contextmanager
    def _locked(self, seconds: float = LOCK_SECONDS) -> Iterator[bool]:
        """Hold the lock of the file for a `with` block, which is told whether that could be had."""
        with self._threads:
            deadline = time.monotonic() + seconds
            while not (is_held := try_lock(self._file)) and time.monotonic() < deadline:
                time.sleep(0.0005)
            try:
                yield is_held
            finally:
                if is_held:
                    unlock(self._file)


def is_in_use(file: int) -> bool:
    """Whether another process uses the page in a file."""
    return is_locked(file, _OWNERS_AT, MAX_OWNERS)


def _slot(tag: str) -> int:
    digest = blake2b(tag.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") % SLOTS


def _number(transaction: str) -> int:
    return int.from_bytes(blake2b(transaction.encode(), digest_size=8).digest(), "big")


def _new_token() -> int:
    return int.from_bytes(os.urandom(8), "big") or 1
