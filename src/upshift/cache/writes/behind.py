"""`WriteBehind`: takes writes, has them on the disk when it says so, and in the database soon."""

from __future__ import annotations

import logging
import os
import re
import stat
import threading
from concurrent.futures import TimeoutError as NotInTimeError
from dataclasses import replace
from time import monotonic
from typing import TYPE_CHECKING, Any, Self

from upshift.cache.codec import codec_for
from upshift.cache.dependencies import CURRENT
from upshift.cache.functions import MISSING
from upshift.cache.writes.aio import AsyncWriteBehind, running_loop
from upshift.cache.writes.committing import Committer
from upshift.cache.writes.counting import WriteStatistics
from upshift.cache.writes.dead_letters import DeadLetter, DeadLetters
from upshift.cache.writes.flushing import Flusher
from upshift.cache.writes.journal import sync_folder
from upshift.cache.writes.limits import CLOSE_SECONDS
from upshift.cache.writes.pending import Pending, size_of
from upshift.cache.writes.records import checked
from upshift.errors import CodecError, SettingsError, WriteBehindError, WriteBehindFullError
from upshift.record.fork import after_fork

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from upshift.cache.writes.committing import Request
    from upshift.cache.writes.limits import Limits
    from upshift.cache.writes.pending import Waiting
    from upshift.cache.writes.records import Key, Put

logger = logging.getLogger("upshift.cache")

_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99}")

NOT_FLUSHED = "it was read before it was in the database"
"""Why what is computed from a write that waits is not kept."""


class WriteBehind:
    """Writes that are durable at once, and in the database soon: what `Cache.write_behind` returns.

    A write is acknowledged when it is on the disk of this machine. From then on `get` returns it in this
    process, and it will be flushed though the process is killed: by this one, or by the next that opens the
    same folder. `upshift.cache.writes` tells what is promised, and what is not.

    Args:
        name: the name of its folder.
        flush: is called with the values by key.
        folder: where the journals are.
        limits: what may wait, and how it is flushed.
        load: reads what does not wait, for `get`.
        value: the annotation of its values.
        timeout: seconds that a write may take.
        renew: is told of tags whenever what they stand for has changed.

    Raises:
        SettingsError: the name is none.

    Attributes:
        aio: the same to be awaited.
        name: its name.
    """

    def __init__(  # noqa: PLR0913 - one call site
        self,
        name: str,
        flush: Callable[[dict[Key, Any]], Any],
        folder: Path,
        limits: Limits,
        *,
        load: Callable[[Key], Any] | None,
        value: object,
        timeout: float,
        renew: Callable[[Iterable[str]], None],
    ) -> None:
        if not _NAME.fullmatch(name):
            raise SettingsError(f"{name!r} is no name of a folder: letters, digits, '-', '_' and '.'")
        self.name = name
        self.aio = AsyncWriteBehind(self)
        self.load = load
        self.timeout = timeout
        self._flush = flush
        self._folder = folder / name
        self._limits = limits
        self._codec = codec_for(value)
        self._renew = renew
        self._letters = DeadLetters(self._folder)
        self._statistics = WriteStatistics()
        self._is_closed = False
        self._opening = threading.Lock()
        self._lock = threading.RLock()
        self._changed, self._arrived = threading.Condition(self._lock), threading.Condition(self._lock)
        self._pending = Pending()
        self._work: tuple[Committer, Flusher] | None = None
        after_fork(self._forget)

    def start(self) -> None:
        """Take over what was left when a process ended, and begin to flush. `put` does so as well.

        Where the flush function is async, it is awaited in the event loop from which this is called.

        Raises:
            SettingsError: the folder cannot be used.
        """
        with self._opening:
            self._is_closed = False
        self._opened()

    def put(self, key: Key, value: Any, *, timeout: float | None = None) -> None:
        """Write a value; return when it is durable.

        An exception says that it is not acknowledged. It is certain not to be written only with
        `WriteBehindFullError`, `CodecError` and `CacheKeyError`.

        Args:
            key: what it is for: a text, a whole number, or a tuple of these.
            value: the value; the last one of a key wins.
            timeout: seconds that it may take, where it has to wait for room.

        Raises:
            WriteBehindFullError: there was no room in time, or never will be for such a value.
            WriteBehindError: the disk did not take it, or it was closed.
            CodecError: the value would not come back as it is.
            CacheKeyError: it is no key.
        """
        request, seconds = self.submit(key, value), self.timeout if timeout is None else timeout
        try:
            request.acknowledged.result(seconds)
        except NotInTimeError:
            raise self.late(request, seconds) from None
        finally:
            self.let_go(request)

    def get(self, key: Key, default: Any = MISSING) -> Any:
        """Return the value of a key: the one that waits, or what `load` reads, or `default` without that.

        Raises:
            CacheKeyError: it is no key.
        """
        value = self.waiting(key)
        if value is MISSING:
            return default if self.load is None else self.load(key)
        return value

    def waiting(self, key: Key) -> Any:
        """Return the value of a key that waits to be flushed; `MISSING` where none does."""
        outer, known = CURRENT.get(), checked(key)
        if outer is not None:
            outer.need([self._tag(known)])  # first: what is put after this has not been seen
        with self._changed:
            write = self._pending.entries.get(known)
        if write is None:
            return MISSING
        if outer is not None:
            outer.spoil(NOT_FLUSHED)
        return self._codec.decode(write.data)

    def flush(self, timeout: float | None = None) -> int:
        """Flush what waits, without delay; return how many writes wait still when the time is up.

        Args:
            timeout: seconds.
        """
        self._opened()
        return self._at_work()[1].drain(self.timeout if timeout is None else timeout)

    def dead_letters(self) -> list[DeadLetter]:
        """Return the writes of this folder that were given up, the oldest first; `value_of` reads them."""
        self._make_folder()
        return self._letters.read()

    def value_of(self, letter: DeadLetter) -> Any:
        """Return the value of a dead letter.

        Raises:
            CodecError: it cannot be read, such as after a deploy that changed its class.
        """
        return self._codec.decode(letter.data)

    def revive(self) -> int:
        """Write the dead letters once more, where nothing newer waits; return how many.

        Raises:
            CodecError: one of them cannot be read. They all stay.
            WriteBehindError: see `put`. They all stay.
        """
        self._make_folder()
        letters = self._letters.read()
        values = [(letter.key, self.value_of(letter)) for letter in letters]
        older = [(key, value) for key, value in values if self.waiting(key) is MISSING]
        for key, value in older:
            self.put(key, value)
        self._letters.remove(letters)
        return len(older)

    def statistics(self) -> WriteStatistics:
        """Return what has been counted until now."""
        with self._changed:
            oldest = next(iter(self._pending.entries.values()), None)
            return replace(
                self._statistics,
                entries=len(self._pending.entries),
                bytes=self._pending.bytes,
                oldest_seconds=monotonic() - oldest.since if oldest is not None else 0.0,
            )

    def close(self, timeout: float = CLOSE_SECONDS) -> int:
        """Take no writes any more, and flush what waits; return how many writes are left when the time is up.

        What is left stays in the journal, and is flushed by whoever opens the folder next. Calling it twice
        does nothing more.

        Args:
            timeout: seconds.
        """
        with self._opening:
            self._is_closed = True
            if self._work is None:
                return 0
            committer, flusher = self._work
            committer.is_open = False
            ends = monotonic() + timeout
            # An event loop cannot run a flush while it waits here.
            is_possible = not flusher.is_async or flusher.loop is not running_loop()
            left = flusher.drain(max(ends - monotonic(), 0.0) if is_possible else 0.0)
            # What is being flushed may be done yet, so the journal is given up only when that has ended.
            if flusher.close(max(ends - monotonic(), 0.1) if is_possible else 0.0):
                committer.join(max(ends - monotonic(), 1.0))
            self._work = None
            self._pending = Pending()
        if left:
            logger.warning("%d writes of %s wait in its journal until it is opened again", left, self.name)
        return left

    def submit(self, key: Key, value: Any) -> Request:
        """Have a write made durable; what it returns tells when it is."""
        known, data = checked(key), self._codec.encode(value)
        if (size := size_of(known, data)) > self._limits.max_bytes:
            raise WriteBehindFullError(
                f"the write is not kept: it takes {size} bytes, "
                f"and all together may take {self._limits.max_bytes}"
            )
        self._opened()
        return self._at_work()[0].submit(known, data)

    def late(self, request: Request, seconds: float) -> WriteBehindError:
        """Return the error of a write that was not durable in time."""
        if self.let_go(request):
            return WriteBehindFullError(
                f"the write is not kept: there was no room for it within {seconds} s, "
                f"as {len(self._pending.entries)} others wait to be flushed to {self.name}"
            )
        return WriteBehindError(f"the disk did not answer within {seconds} s: the write may be kept, or not")

    def let_go(self, request: Request) -> bool:
        """Give a write up that nobody waits for, unless it is being written; return whether it was."""
        work = self._work
        return work is not None and work[0].withdraw(request)

    @property
    def faults(self) -> int:
        """What failed beside flushes."""
        return self._statistics.faults

    def __enter__(self) -> Self:
        """Start."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def _opened(self) -> None:
        """Begin to work, if that has not happened."""
        if self._is_closed:  # without the lock: who closes has it, and may be waiting for this event loop
            raise WriteBehindError(f"{self.name} has been closed: `start` opens it again")
        if self._work is None:
            with self._opening:
                if self._work is None and not self._is_closed:
                    self._work = self._begin()
        flusher = self._at_work()[1]
        if flusher.is_async and (flusher.loop is None or flusher.loop.is_closed()):
            flusher.loop = running_loop()

    def _begin(self) -> tuple[Committer, Flusher]:
        self._make_folder()
        try:
            committer = self._committer()
            committer.start()
        except OSError as error:
            raise SettingsError(f"{self._folder} cannot be used: {error}") from error
        flusher = Flusher(
            self._flush,
            self._pending,
            self._changed,
            self._limits,
            self._statistics,
            decode=self._codec.decode,
            done=committer.done,
            give_up=self._give_up,
            ended=committer.close,
        )
        flusher.start()
        return committer, flusher

    def _committer(self) -> Committer:
        return Committer(
            self._folder,
            self._pending,
            self._changed,
            self._arrived,
            self._limits,
            self._statistics,
            written=lambda keys: self._renew(map(self._tag, keys)),
            is_readable=self._is_readable,
        )

    def _make_folder(self) -> None:
        new = [each for each in (self._folder, *self._folder.parents) if not each.exists()]
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for each in new:
                sync_folder(each.parent)
            status = self._folder.stat()
        except OSError as error:
            raise SettingsError(f"{self._folder} cannot be made: {error.strerror}") from error
        if status.st_uid != os.geteuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise SettingsError(f"{self._folder} has to belong to this user, and be writable by nobody else")

    def _at_work(self) -> tuple[Committer, Flusher]:
        work = self._work
        if work is None:
            raise WriteBehindError(f"{self.name} has been closed: `start` opens it again")
        return work

    def _tag(self, key: Key) -> str:
        return f"write:{self.name}:{key!r}"

    def _is_readable(self, write: Put) -> bool:
        """Whether the value of a dead process's write can be read; one that cannot becomes a dead letter."""
        try:
            self._codec.decode(write.data)
        except CodecError as error:
            if not self._letters.add(DeadLetter(write.key, write.data, str(error))):
                raise OSError(f"no room for a dead letter in {self._folder}") from error
            self._statistics.given_up += 1
            logger.error("a write of %s cannot be read: it is a dead letter now: %s", self.name, error)  # noqa: TRY400
            return False
        return True

    def _give_up(self, write: Waiting, error: Exception) -> bool:
        try:
            is_kept = self._letters.add(DeadLetter(write.key, write.data, repr(error)))
        except OSError as fault:
            self._statistics.note_fault("a dead letter cannot be kept", fault)
            return False
        if is_kept:
            logger.error("a write of %s was given up: it is a dead letter now", self.name, exc_info=error)
        return is_kept

    def _forget(self) -> None:
        """In a forked child: what waits is the parent's, and its threads have not come along."""
        work, self._work = self._work, None
        self._opening = threading.Lock()
        self._lock = threading.RLock()
        self._changed, self._arrived = threading.Condition(self._lock), threading.Condition(self._lock)
        self._pending = Pending()
        self._statistics = WriteStatistics()
        if work is not None:
            work[0].forget()
