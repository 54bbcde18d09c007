"""Group commit: one thread writes what all callers have put since it last looked, and syncs the file once.

A call of `fdatasync` takes as long for a thousand writes as for one, and while it lasts the next ones gather.
A write is acknowledged, and seen by those who read, only when it is on the disk; those of one group in the
order in which they came.

This thread alone touches the journal. What the flusher is done with it is told by `done`, which is written
with the next group: if that is lost, the writes are flushed once more.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from concurrent.futures import Future
from time import monotonic
from typing import TYPE_CHECKING

from upshift.cache.writes.journal import Journal, orphans
from upshift.cache.writes.pending import Waiting, size_of
from upshift.cache.writes.records import Done, Put, pack
from upshift.errors import WriteBehindError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from upshift.cache.writes.counting import WriteStatistics
    from upshift.cache.writes.limits import Limits
    from upshift.cache.writes.pending import Pending
    from upshift.cache.writes.records import Key

logger = logging.getLogger("upshift.cache")

MAX_GROUP = 4_096
"""Writes of one group."""

LOOK_SECONDS = 2.0
"""How often it is looked for the journals of processes that have died."""

MAX_DONE = 10_000
"""Numbers in one record of what has been flushed."""


class Request:
    """A write that somebody waits for.

    Attributes:
        key: what it is for.
        data: the value as bytes.
        acknowledged: set when it is durable, with the error if it is not.
    """

    __slots__ = ("acknowledged", "data", "key")

    def __init__(self, key: Key, data: bytes) -> None:
        self.key = key
        self.data = data
        self.acknowledged: Future[None] = Future()


class Committer:
    """Makes writes durable, in a thread of its own.

    Args:
        folder: where the journals of all processes are; it must exist.
        pending: the writes that are durable and wait to be flushed.
        changed: the lock of `pending`, and the condition that tells of changes of it.
        arrived: the same lock, and the condition that tells this thread of what is to be written.
        limits: what may wait at most.
        statistics: counts what happens.
        written: is told of the keys of each group, once their values are seen by those who read.
        is_readable: tells of a write of a dead process whether its value can be read; one that cannot is its
            affair.

    Attributes:
        is_open: whether writes are taken.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - one call site
        self,
        folder: Path,
        pending: Pending,
        changed: threading.Condition,
        arrived: threading.Condition,
        limits: Limits,
        statistics: WriteStatistics,
        *,
        written: Callable[[list[Key]], None],
        is_readable: Callable[[Put], bool],
    ) -> None:
        self.is_open = True
        self._folder = folder
        self._pending = pending
        self._changed = changed
        self._arrived = arrived
        self._limits = limits
        self._statistics = statistics
        self._written = written
        self._is_readable = is_readable
        self._queue: OrderedDict[Request, None] = OrderedDict()
        self._done: list[int] = []
        self._number = 0
        self._journal = Journal(folder, limits.segment_bytes)
        self._is_over = False
        self._thread = threading.Thread(target=self._run, name="upshift-journal", daemon=True)

    def start(self) -> None:
        """Take over what dead processes have left, and begin to work.

        Raises:
            OSError: the folder cannot be read, or not be written.
        """
        try:
            self._adopt()
        except OSError:
            self._journal.close(is_needed=True)
            raise
        self._thread.start()

    def submit(self, key: Key, data: bytes) -> Request:
        """Have a write made durable as soon as there is room for it; its `acknowledged` tells when it is.

        Raises:
            WriteBehindError: no writes are taken any more.
        """
        request = Request(key, data)
        with self._changed:
            if not self.is_open:
                raise WriteBehindError("the write is not kept: no more are taken, as it has been closed")
            self._queue[request] = None
            self._arrived.notify()
        return request

    def withdraw(self, request: Request) -> bool:
        """Give a write up that nobody waits for any more; return whether it will not be made durable."""
        with self._changed:
            self._queue.pop(request, None)
        return request.acknowledged.cancel()

    def done(self, writes: list[Waiting]) -> None:
        """Forget writes that are in the database. The lock is held."""
        for write in writes:
            self._pending.remove(write)
            self._done.append(write.number)
        self._arrived.notify()
        self._changed.notify_all()

    def close(self) -> None:
        """Acknowledge what can be, refuse the rest, and give the journal up: begin with that.

        What is pending stays in the journal for whoever comes next.
        """
        with self._changed:
            self.is_open = False
            self._is_over = True
            self._arrived.notify()

    def join(self, seconds: float) -> None:
        """Wait until the journal is given up."""
        self._thread.join(seconds)

    def forget(self) -> None:
        """In a forked child: the journal is the parent's, and the thread has not come along."""
        self._journal.forget()

    def _run(self) -> None:
        looked = monotonic()
        while True:
            with self._changed:
                group = self._taken()
                while not group and not self._done and not self._is_over:
                    if not self._arrived.wait(LOOK_SECONDS):
                        break
                    group = self._taken()
                done, self._done = self._done, []
                is_over = self._is_over and not group
            self._commit(group, done)
            if is_over:
                break
            if monotonic() - looked > LOOK_SECONDS:
                looked = monotonic()
                self._guarded(self._adopt)
        with self._changed:
            refused = list(self._queue)
            self._queue.clear()
            is_needed = bool(self._pending.entries)
        for request in refused:
            if request.acknowledged.set_running_or_notify_cancel():
                request.acknowledged.set_exception(
                    WriteBehindError("the write is not kept: it has been closed")
                )
        self._guarded(lambda: self._journal.close(is_needed=is_needed))

    def _taken(self) -> list[Request]:
        """Take the requests for which there is room, the first ones first."""
        group: list[Request] = []
        keys: set[Key] = set()
        entries, size = len(self._pending.entries), self._pending.bytes
        while self._queue and len(group) < MAX_GROUP:
            request = next(iter(self._queue))
            adds = 0 if request.key in keys or request.key in self._pending.entries else 1
            entries += adds
            size += size_of(request.key, request.data)
            if entries > self._limits.max_entries or size > self._limits.max_bytes:
                self._statistics.full += 1
                break
            del self._queue[request]
            if request.acknowledged.set_running_or_notify_cancel():
                group.append(request)
                keys.add(request.key)
        return group

    def _commit(self, group: list[Request], done: list[int]) -> None:
        """Write a group, and let its writes wait to be flushed."""
        began = monotonic()
        writes = [Put(self._number + 1 + place, each.key, each.data) for place, each in enumerate(group)]
        self._number += len(writes)
        records = [pack(Done(tuple(done[at : at + MAX_DONE]))) for at in range(0, len(done), MAX_DONE)]
        records += map(pack, writes)
        try:
            segment = self._journal.append(b"".join(records), is_durable=bool(group)) if records else 0
        except Exception as error:  # noqa: BLE001 - the callers are told, and the next ones may have more luck
            self._refuse(group, error)
            return
        if group:
            self._statistics.commits.add(monotonic() - began)
            self._wait_for_flush(writes, segment)
            self._guarded(lambda: self._written([each.key for each in writes]))
            for request in group:
                request.acknowledged.set_result(None)
        self._guarded(self._clean)

    def _refuse(self, group: list[Request], error: Exception) -> None:
        self._statistics.refused += len(group)
        reason = (error.strerror if isinstance(error, OSError) else None) or repr(error)
        self._statistics.note_fault("the journal of a write-behind cannot be written", error)
        for request in group:
            refusal = WriteBehindError(f"the write is not kept: {self._folder}: {reason}")
            refusal.__cause__ = error
            request.acknowledged.set_exception(refusal)

    def _wait_for_flush(self, writes: list[Put], segment: int) -> None:
        now = monotonic()
        with self._changed:
            for each in writes:
                is_replaced = self._pending.put(Waiting(each.number, each.key, each.data, now, segment))
                self._statistics.coalesced += is_replaced
            self._statistics.puts += len(writes)
            self._changed.notify_all()

    def _clean(self) -> None:
        """Remove what nobody needs of the journal, and keep it from growing while writes wait in it."""
        with self._changed:
            oldest = self._pending.oldest_segment()
            most = 2 * self._pending.bytes + 4 * self._limits.segment_bytes
        self._journal.trim(oldest)
        if oldest is not None and self._journal.size > most:
            with self._changed:
                left = self._pending.within(self._journal.oldest)
                copies = [pack(Put(each.number, each.key, each.data)) for each in left]
            segment = self._journal.append(b"".join(copies), is_durable=True)
            with self._changed:
                for each in left:
                    if self._pending.entries.get(each.key) is each:
                        self._pending.move(each, segment)
                oldest = self._pending.oldest_segment()
            self._journal.trim(oldest)
        self._statistics.journal_bytes = self._journal.size

    def _adopt(self) -> None:
        """Take over the journals of dead processes.

        What they have left is made durable here before it is removed there, and flushed only then. A write of
        this process is taken to be the younger one.
        """
        for orphan in orphans(self._folder):
            replayed = orphan.replay()
            if replayed.cut:
                logger.warning(
                    "a journal in %s ended in %d bytes of a write that was not acknowledged",
                    self._folder,
                    replayed.cut,
                )
            self._statistics.torn_bytes += replayed.cut
            with self._changed:
                known = set(self._pending.entries)
            left = [each for each in replayed.writes if each.key not in known and self._is_readable(each)]
            writes = [Put(self._number + 1 + place, each.key, each.data) for place, each in enumerate(left)]
            self._number += len(writes)
            segment = 0
            if writes:
                segment = self._journal.append(b"".join(map(pack, writes)), is_durable=True)
            orphan.remove()
            now = monotonic()
            with self._changed:
                for each in writes:
                    self._pending.put(Waiting(each.number, each.key, each.data, now, segment))
                self._statistics.replayed += len(writes)
                self._changed.notify_all()

    def _guarded(self, work: Callable[[], None]) -> None:
        """Do what no caller waits for; what fails is tried again the next time."""
        try:
            work()
        except Exception as error:  # noqa: BLE001 - this thread has to go on
            self._statistics.note_fault("what follows a write could not be done", error)
