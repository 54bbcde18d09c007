"""The thread that writes lines, so that nobody who logs ever waits for a disk or for the reader of a pipe."""

from __future__ import annotations

import multiprocessing
import threading
import weakref
from contextlib import suppress
from multiprocessing.util import Finalize
from queue import Empty, SimpleQueue
from time import monotonic
from typing import TYPE_CHECKING, Protocol

from upshift.record.fork import after_fork

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_WAITING_BYTES = 8 * 1024 * 1024
"""Bytes of lines that wait to be written; further lines are dropped and counted."""

LINGER_SECONDS = 0.02
"""How long lines wait for others to be written with."""

RETRY_SECONDS = 1.0
"""How long to wait after a fault."""

GRACE_SECONDS = 0.1
"""How long to wait, beyond the deadline, for the thread to notice that it is to end."""

EXIT_SECONDS = 2.0
"""How long lines may take to be written when the process ends."""


class Sink(Protocol):
    """Where lines go to."""

    def write(self, data: bytes, start: int) -> int:
        """Write some of the lines in `data`, from `start` on, and return where to go on.

        Raises:
            OSError: they cannot be written now; nothing was.
        """

    def after_fork(self) -> None:
        """Let go, in a forked child, of what is the parent's."""

    def close(self) -> None:
        """Let go of everything."""


class Writer:
    """Writes lines in a thread of its own, which begins with the first line.

    Any thread may write, and signal handlers and finalisers may. A line that comes while too much waits is
    dropped; how many were is told in the log when it can be written again. The first fault is told on
    standard error; further ones are only counted.

    A forked child begins with nothing waiting and a thread of its own: the parent writes what it had.

    Args:
        sink: where lines go to.
        notice: makes a line that tells of dropped ones.
        say: tells of the first fault somewhere else, where there is somewhere else.
        what: what is written, as the notices call it.

    Attributes:
        dropped: lines that were not written.
        faults: how often writing failed.
    """

    def __init__(
        self,
        sink: Sink,
        notice: Callable[[str], bytes],
        say: Callable[[bytes], None] | None = None,
        what: str = "log lines",
    ) -> None:
        self._what = what
        self._sink = sink
        self._notice = notice
        self._say = say
        self._closed = False
        self._begin()
        after_fork(self.after_fork)

    def _begin(self) -> None:
        self.dropped = 0
        self.faults = 0
        self._told = 0
        # Reentrant, as a signal handler may log while its thread logs.
        self._lock = threading.RLock()
        self._waiting: SimpleQueue[bytes | threading.Event | None] = SimpleQueue()
        self._size = 0
        self._hurry = threading.Event()
        self._thread: threading.Thread | None = None

    def write(self, lines: bytes) -> None:
        """Take lines, each with its newline, to be written soon."""
        size = len(lines)
        with self._lock:
            if self._closed or self._size + size > MAX_WAITING_BYTES:
                self._drop(lines)
                return
            self._size += size  # no call within: a signal handler that logs would come in between
            self._waiting.put(lines)
            if self._thread is None:
                self._start()

    def flush(self, deadline_seconds: float) -> bool:
        """Wait until all lines taken before this call are written; False where that takes too long."""
        if self._closed:
            return not self._size
        if self._thread is None:  # nothing was written yet, or no thread can be had, as at the very end
            return self._write_here()
        mark = threading.Event()
        self._waiting.put(mark)
        self._hurry.set()
        return mark.wait(deadline_seconds)

    def close(self, deadline_seconds: float) -> bool:
        """Flush, and end; further lines are dropped. False where not all lines could be written."""
        started = monotonic()
        done = self.flush(deadline_seconds)
        with self._lock:
            if self._closed:
                return done
            self._closed = True
            thread = self._thread
        if thread is None:
            self._sink.close()
            return done
        self._waiting.put(None)
        self._hurry.set()
        thread.join(max(GRACE_SECONDS, deadline_seconds - (monotonic() - started)))
        return done

    def after_fork(self) -> None:
        """Begin anew in a forked child."""
        self._begin()
        self._sink.after_fork()

    def _drop(self, lines: bytes, start: int = 0) -> None:
        dropped = lines.count(b"\n", start)
        with self._lock:
            self.dropped += dropped

    def _start(self) -> None:
        # Set before it starts, which takes a while: a signal handler that logs must not start another.
        self._thread = threading.Thread(target=self._run, name="upshift-writer", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:
            self._thread = None  # the system gives no thread now; the next line asks again
            return
        if multiprocessing.parent_process() is not None:
            # Such a process may end without calling what is registered with `atexit`.
            Finalize(self, _flush, args=(weakref.ref(self),), exitpriority=0)

    def _run(self) -> None:
        while True:
            first = self._waiting.get()
            self._hurry.wait(LINGER_SECONDS)
            self._hurry.clear()
            if not self._write_batch(first):
                self._sink.close()
                return

    def _write_here(self) -> bool:
        with suppress(Empty):
            self._write_batch(self._waiting.get_nowait(), patiently=False)
        return not self._size

    def _write_batch(self, first: bytes | threading.Event | None, *, patiently: bool = True) -> bool:
        """Write what waits; False where it was the end."""
        items = [first]
        while True:
            try:
                items.append(self._waiting.get_nowait())
            except Empty:
                break
        self._write_out(b"".join(item for item in items if isinstance(item, bytes)), patiently=patiently)
        for item in items:
            if isinstance(item, threading.Event):
                item.set()
        return None not in items

    def _write_out(self, data: bytes, *, patiently: bool) -> None:
        start = 0
        while start < len(data):
            self._hurry.clear()
            try:
                start = self._sink.write(data, start)
            except Exception as fault:  # noqa: BLE001 - whatever it is, the next lines want to be written
                self._count(fault)
                if self._closed or not patiently:
                    self._drop(data, start)
                    break
                self._hurry.wait(RETRY_SECONDS)
        size = len(data)
        with self._lock:
            self._size -= size
        if start == len(data) and self.dropped > self._told:
            self._tell_dropped()

    def _tell_dropped(self) -> None:
        dropped = self.dropped
        line = self._notice(
            f"{dropped - self._told} {self._what} were dropped, as they could not be written in time"
        )
        start = 0
        try:
            while start < len(line):
                start = self._sink.write(line, start)
        except Exception:  # noqa: BLE001 - whatever it is, there will be another time
            return
        self._told = dropped

    def _count(self, fault: Exception) -> None:
        self.faults += 1
        if self.faults == 1 and self._say is not None:
            what = f"{self._what} cannot be written, and wait: {type(fault).__name__}: {fault}; told once"
            self._say(self._notice(what))


def _flush(reference: weakref.ref[Writer]) -> None:
    writer = reference()
    if writer is not None:
        writer.flush(EXIT_SECONDS)
