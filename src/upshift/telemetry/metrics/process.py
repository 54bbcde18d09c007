"""The metrics of the process: its use of the machine, the garbage collector's pauses, the event loop's lag.

Names are those of Prometheus' own client libraries. Most is read when the metrics are collected, from `/proc`
where there is one; what a system does not tell is left out. Collections by the garbage collector are timed as
they happen. The event loop is asked a few times a second how late it is, by a timer: a callback that blocks
the loop makes the timer late by as much.

The workers of one server are added up: `server_processes` says how many there are, to divide by.
"""

from __future__ import annotations

import gc
import os
import resource
import threading
from contextlib import suppress
from pathlib import Path
from time import perf_counter, process_time
from typing import TYPE_CHECKING

from upshift.telemetry.metrics.registry import DURATION_BUCKETS

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Mapping

    from upshift.telemetry.metrics.registry import Metrics

LAG_SECONDS = 0.25
"""How often the event loop is asked."""

_PAUSES = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
_LAGS = (0.001, 0.0025, *DURATION_BUCKETS)
_GENERATIONS = ("0", "1", "2")

_GAUGES = {
    "process_resident_memory_bytes": "Memory of the process that is in RAM",
    "process_threads": "Threads of the process",
    "process_open_fds": "Files, sockets and pipes that are open",
    "process_max_fds": "Files, sockets and pipes that may be open at most",
    "process_start_time_seconds": "When the process started, in seconds since 1970",
    "server_processes": "Processes whose counts are added up here",
}
_UNITS = {"process_resident_memory_bytes": "bytes", "process_start_time_seconds": "seconds"}

# Positions in /proc/self/stat, as in proc_pid_stat(5), behind the command's name, which may hold anything.
_THREADS, _START_TICKS, _RESIDENT_PAGES = 20 - 3, 22 - 3, 24 - 3


class ProcessMetrics:
    """Tells of the process it is in, until it is closed.

    Args:
        metrics: where the families are declared.
        is_alone: whether no other worker's metrics are added to this one's. Only then is the start of the
            process told, as a sum of several would be no time at all.
        proc: where the kernel tells of the process.

    Example:
        >>> from upshift.telemetry.metrics.registry import Metrics
        >>> metrics = Metrics()
        >>> process = ProcessMetrics(metrics)
        >>> "process_threads" in [family.name for family in metrics.families()]
        True
        >>> process.close()
    """

    def __init__(self, metrics: Metrics, *, is_alone: bool = True, proc: str = "/proc/self") -> None:
        self._proc = Path(proc)
        self._processor = metrics.counter(
            "process_cpu_seconds",
            "Processor time of the process, in user and system mode",
            unit="seconds",
            own=True,
        )
        self._processor_told = (os.getpid(), 0.0)
        start = _start(self._proc) if is_alone else {}
        self._gauges = {
            name: metrics.gauge(name, _GAUGES[name], unit=_UNITS.get(name, ""), own=True)
            for name in (*start, *_readings(self._proc))
        }
        for name, value in start.items():
            self._gauges[name].set(value)
        pauses = metrics.histogram(
            "python_gc_duration",
            "Time that collections of the garbage collector took",
            labels={"generation": _GENERATIONS},
            buckets=_PAUSES,
            own=True,
        )
        # Found here, as finding takes a lock, and whom the collector interrupts may hold it.
        self._pauses = tuple(pauses.at((generation,)) for generation in _GENERATIONS)
        self._pause_started = 0.0
        self._lag = metrics.histogram(
            "python_event_loop_lag", "How late a timer of the event loop was", buckets=_LAGS, own=True
        ).at(())
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_closed = False
        metrics.before_collecting(self._read)
        gc.callbacks.append(self._collecting)

    def watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Ask a running event loop how late it is, from now on; call it in the loop's own thread.

        One loop is watched at a time: the one before is left alone from then on.
        """
        if not self._is_closed and self._loop is not loop:
            self._loop = loop
            self._ask(loop)

    def close(self) -> None:
        """Let go of the garbage collector and the event loop. Calling it twice does nothing more.

        The loop's timer rings once more within `LAG_SECONDS`, and does nothing then: it cannot be taken back
        from another thread.
        """
        self._is_closed = True
        self._loop = None
        with suppress(ValueError):  # it was closed before
            gc.callbacks.remove(self._collecting)

    def _ask(self, loop: asyncio.AbstractEventLoop) -> None:
        due = perf_counter() + LAG_SECONDS

        def ring() -> None:
            if self._loop is loop:
                # A timer may ring early by the resolution of the loop's own clock.
                self._lag.observe(max(0.0, perf_counter() - due))
                self._ask(loop)

        loop.call_later(LAG_SECONDS, ring)

    def _collecting(self, phase: str, info: Mapping[str, int]) -> None:
        # Whatever it interrupts, the collector does not interrupt itself: nobody else observes these series.
        if phase == "start":
            self._pause_started = perf_counter()
        elif self._pause_started:
            self._pauses[info["generation"]].observe(perf_counter() - self._pause_started)

    def _read(self) -> None:
        if self._is_closed:
            return
        process, told = self._processor_told
        if process != os.getpid():  # a forked child, whose time begins at nothing
            told = 0.0
        now = process_time()
        self._processor_told = (os.getpid(), now)
        self._processor.add(max(0.0, now - told))
        for name, value in _readings(self._proc).items():
            if gauge := self._gauges.get(name):
                gauge.set(value)


def _readings(proc: Path) -> dict[str, float]:
    """What changes, by the name of its gauge."""
    readings: dict[str, float] = {"server_processes": 1, "process_threads": threading.active_count()}
    if stat := _stat(proc):
        readings["process_threads"] = int(stat[_THREADS])
        readings["process_resident_memory_bytes"] = int(stat[_RESIDENT_PAGES]) * resource.getpagesize()
    with suppress(OSError):
        readings["process_open_fds"] = _open_files(proc)
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit != resource.RLIM_INFINITY:
        readings["process_max_fds"] = limit
    return readings


def _start(proc: Path) -> dict[str, float]:
    """When the process started, by the name of its gauge; nothing where the kernel does not tell."""
    with suppress(OSError, StopIteration):
        boot = next(
            int(line.split()[1])
            for line in (proc.parent / "stat").read_bytes().splitlines()
            if line.startswith(b"btime ")
        )
        if stat := _stat(proc):
            return {"process_start_time_seconds": boot + int(stat[_START_TICKS]) / os.sysconf("SC_CLK_TCK")}
    return {}


def _stat(proc: Path) -> list[bytes]:
    with suppress(OSError):
        return (proc / "stat").read_bytes().rpartition(b")")[2].split()
    return []


def _open_files(proc: Path) -> int:
    told = 0
    with suppress(OSError):
        told = (proc / "fd").stat().st_size  # the number of files, on Linux since 6.2
    return (
        told or sum(1 for _ in Path("/dev/fd").iterdir()) - 1
    )  # the list has the opened folder itself in it
