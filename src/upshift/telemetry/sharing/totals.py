"""Several workers as one: every process adds what it counted to totals in one file.

A request touches only numbers in its own process's memory. Once a second a thread adds what has changed since
the last time, so a worker that is killed takes at most its last second along; what it had added stays. A
scrape reads the sums, which takes as long for forty workers as for one. How the file stays sound is told in
`upshift.telemetry.sharing.file`.
"""

from __future__ import annotations

import logging
import operator
import os
import threading
import weakref
from array import array
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from upshift.telemetry.sharing.file import Kind, Place, TotalsFile, by_page

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

FLUSH_SECONDS = 1.0
"""How often counts go to the file, in seconds; a worker that is killed loses no more."""

ATTEMPTS = 3
"""How often to open the file when somebody removes it meanwhile."""

_logger = logging.getLogger("upshift.telemetry")


class Series(NamedTuple):
    """One series of one process.

    Attributes:
        key: what the registry knows it by; the same in every process.
        kind: counters and histograms are added up for ever, gauges over the processes that live.
        values: the numbers; a process only ever changes them in place.
    """

    key: bytes
    kind: Kind
    values: array[float]


class SharedTotals:
    """The totals of all processes that share a file.

    Every method can be called from any thread, and none raises because of the file: when it cannot be used,
    this process's own counts stand in until it can.

    A forked child starts with no counts of its own: what the parent had counted stays the parent's. What it
    counts from then on is added; its gauges are not, for it has the parent's, until it serves itself: until
    it is told to start, or asked for the totals.

    Args:
        path: the file, the same in every process: see `find_path`. It is made when first needed.
        series: gives this process's series, at most one for a key. It is called from other threads.
        before_flush: called before each flush, likewise, such as to bring the series up to date.

    Attributes:
        faults: how often the file could not be used.
        dropped: series of this process that the file had no room for when it was last written.

    Example:
        >>> import tempfile, pathlib
        >>> orders = Series(b"orders", "counter", array("d", [2.0]))
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     worker = SharedTotals(pathlib.Path(directory, "totals"), lambda: [orders])
        ...     worker.flush()
        ...     worker.close()
        ...     successor = SharedTotals(pathlib.Path(directory, "totals"), lambda: [orders])
        ...     successor.totals()
        ...     successor.close()
        {b'orders': ('counter', [4.0])}
    """

    def __init__(
        self,
        path: Path,
        series: Callable[[], Iterable[Series]],
        before_flush: Callable[[], None] = lambda: None,
    ) -> None:
        self.faults = 0
        self.dropped = 0
        self._path = path
        self._series = series
        self._before_flush = before_flush
        self._mutex = threading.Lock()
        self._file: TotalsFile | None = None
        self._closed = False
        self._has_gauges = True
        # What a parent counted before the fork, and what the file has from here; values by key.
        self._inherited: dict[bytes, bytes] = {}
        self._flushed: dict[bytes, bytes] = {}
        self._at_fork: list[Series] = []
        self._stop: threading.Event | None = None
        os.register_at_fork(
            before=_weakly(self._before_fork),
            after_in_parent=_weakly(self._after_fork_in_parent),
            after_in_child=_weakly(self._after_fork_in_child),
        )

    def start(self) -> None:
        """Flush once every `FLUSH_SECONDS` from now on, the gauges as well; where it does so, it goes on.

        Call it when the first request comes or the application starts up, and not on import: a server that
        loads the application before it forks should do so with one thread. Children go on by themselves.
        """
        with self._mutex:
            self._has_gauges = True
            if self._stop is None and not self._closed:
                self._start_thread()

    def flush(self) -> None:
        """Add what this process has counted since the last time, if anything."""
        try:
            self._before_flush()
        except Exception as fault:  # noqa: BLE001 - whatever it is, the host goes on
            self._count(fault)
        with self._mutex:
            if self._closed:
                return
            try:
                if self._is_flushed():
                    return
                with self._locked_file() as file:
                    self._flush(file)
            except Exception as fault:  # noqa: BLE001 - whatever it is, the host goes on
                self._count(fault)

    def totals(self) -> dict[bytes, tuple[Kind, list[float]]]:
        """Return the sums over all processes, by key, with what this one has counted until now.

        Where the file cannot be used, this process's own counts.
        """
        with self._mutex:
            self._has_gauges = True
            try:
                if not self._closed:
                    return self._flush_and_read()
            except Exception as fault:  # noqa: BLE001 - whatever it is, the host goes on
                self._count(fault)
            return self._own()

    def close(self) -> None:
        """Flush, stop flushing, and leave the file; calling it twice does nothing more."""
        self.flush()
        with self._mutex:
            self._closed = True
            self._leave_file()
            if self._stop is not None:
                self._stop.set()

    def _flush_and_read(self) -> dict[bytes, tuple[Kind, list[float]]]:
        try:
            with self._locked_file() as file:
                self._flush(file)
                return file.read()
        except TimeoutError as fault:
            if self._file is None:
                raise
            # Behind by the last flush, which is better than a sum that falls to one process's share.
            self._count(fault)
            return self._file.read()

    def _is_flushed(self) -> bool:
        """Whether the file has all: it costs two system calls to know that it is still the same file."""
        flushed = self._flushed
        return (
            self._file is not None
            and all(
                flushed.get(each.key) == each.values.tobytes()
                for each in self._series()
                if self._has_gauges or each.kind != "gauge"
            )
            and self._file.is_unchanged()
        )

    def _flush(self, file: TotalsFile) -> None:
        dropped = 0
        additions: list[tuple[bytes, Place, array[float]]] = []
        gauges: list[tuple[Place, array[float]]] = []
        now: dict[bytes, bytes] = {}
        for key, kind, values in self._series():
            if kind == "gauge" and not self._has_gauges:
                continue
            # One copy, so that what other threads count meanwhile is for the next time.
            current = values.tobytes()
            place = file.place(key, kind, len(values))
            if place is None:
                dropped += 1
                self._flushed[key] = current
            elif kind == "gauge":
                gauges.append((place, array("d", current)))
                self._flushed[key] = current
            elif current != self._flushed.get(key):
                now[key] = current
                additions.append((key, place, self._delta(key, current)))
        for page in by_page(additions):
            file.add([(place, delta) for _, place, delta in page])
            self._flushed.update((key, now[key]) for key, _, _ in page)
        if gauges and not file.publish(gauges):
            dropped += len(gauges)
        self.dropped = dropped

    def _delta(self, key: bytes, current: bytes) -> array[float]:
        before = self._flushed.get(key)
        values = array("d", current)
        return values if before is None else array("d", map(operator.sub, values, array("d", before)))

    @contextmanager
    def _locked_file(self) -> Iterator[TotalsFile]:
        """The file, locked and up to date."""
        for _ in range(ATTEMPTS):
            if self._file is None:
                self._file = TotalsFile(self._path)
                self._flushed = dict(self._inherited)
            file = self._file
            with file.locked():
                if file.is_in_place():
                    if file.refresh():
                        self._flushed = dict(self._inherited)
                    yield file
                    return
            self._leave_file()
        raise FileNotFoundError(f"{self._path} is removed as often as it is made")

    def _leave_file(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _own(self) -> dict[bytes, tuple[Kind, list[float]]]:
        own: dict[bytes, tuple[Kind, list[float]]] = {}
        for key, kind, values in self._series():
            inherited = None if kind == "gauge" else self._inherited.get(key)
            numbers = values if inherited is None else map(operator.sub, values, array("d", inherited))
            own[key] = (kind, list(numbers))
        return own

    def _count(self, fault: Exception) -> None:
        self.faults += 1
        if self.faults == 1:
            _logger.warning(
                "The metrics file %s cannot be used, so /metrics may tell of one worker only: %s: %s. "
                "This is logged once.",
                self._path,
                type(fault).__name__,
                fault,
            )

    def _start_thread(self) -> None:
        self._stop = threading.Event()
        threading.Thread(
            target=_flush_regularly,
            args=(weakref.ref(self), self._stop),
            name="upshift-metrics",
            daemon=True,
        ).start()

    def _before_fork(self) -> None:
        # Held over the fork, so that the child finds no flush half done.
        self._mutex.acquire()
        try:
            # The registry may take locks for this, which in the child would be locked for ever.
            self._at_fork = list(self._series())
        except Exception as fault:  # noqa: BLE001 - whatever it is, the host goes on
            self._count(fault)

    def _after_fork_in_parent(self) -> None:
        self._at_fork = []
        self._mutex.release()

    def _after_fork_in_child(self) -> None:
        self._mutex = threading.Lock()
        self._has_gauges = False
        # The child's end of the open file; the parent keeps its slot.
        self._leave_file()
        self._inherited = {key: values.tobytes() for key, kind, values in self._at_fork if kind != "gauge"}
        self._at_fork = []
        if self._stop is not None and not self._closed:
            try:
                self._start_thread()
            except RuntimeError as fault:  # the system gives no more threads
                self._count(fault)


def _flush_regularly(reference: weakref.ref[SharedTotals], stop: threading.Event) -> None:
    while not stop.wait(FLUSH_SECONDS):
        totals = reference()
        if totals is None:
            return
        totals.flush()
        del totals  # or it would live as long as this thread


def _weakly(method: Callable[[], None]) -> Callable[[], None]:
    """Call the method while its object lives: what is registered for forks stays registered for ever."""
    reference = weakref.WeakMethod(method)

    def call() -> None:
        alive = reference()
        if alive is not None:
            alive()

    return call
