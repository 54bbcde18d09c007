"""CPU time of process trees: the cost of a request that latency does not show.

On Linux a process is read through its CPU-time clock (`clock_getcpuclockid(3)`): nanoseconds, including
threads that have ended. Summing `/proc/<pid>/task/*/schedstat` would lose those, and thread pools that
run synchronous endpoints let idle threads end. The kernel asks no permission for reading the clock, so a
PostgreSQL server of another user counts as well. Elsewhere psutil reads the process's user and system time.

A child that ended between two readings is found in its parent's children times, once the parent has
waited for it. Linux reports those in ticks of 10 ms, so each such parent adds an error of at most 20 ms
to a reading; keep-alive connections and connection pools keep children, and so the nanoseconds, alive.
Not counted are processes that left the tree (daemons that forked twice) and, off Linux, ended children.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from upshift.errors import MissingExtraError, ProofError

try:
    import psutil
except ImportError as error:  # pragma: no cover - the test environment has the extra
    raise MissingExtraError("upshift.prove", "load") from error

if TYPE_CHECKING:
    from collections.abc import Sequence

ATTEMPTS = 10
"""Readings tried before giving up on a tree whose processes come and go."""


def cpu_seconds(roots: Sequence[int]) -> float:
    """CPU time that processes and all their descendants have used, in seconds.

    Only differences between two readings of one tree mean anything.

    Args:
        roots: process ids; one that descends from another is counted once.

    Raises:
        ProofError: a root does not run, may not be read, or its descendants come and go too fast to count.

    Example:
        >>> import os
        >>> before = cpu_seconds([os.getpid()])
        >>> cpu_seconds([os.getpid()]) > before
        True
    """
    for _ in range(ATTEMPTS):
        tree = _tree(roots)
        try:
            total = sum(map(_spent, tree))
        except (psutil.NoSuchProcess, ProcessLookupError):
            continue
        # A child that ended meanwhile may be counted twice (in its parent) or not at all: read again.
        if _tree(roots) == tree:
            return total
    raise ProofError(
        f"the CPU time of {_named(roots)} cannot be counted: child processes start and end faster than they "
        "can be read; let them serve more than one request each"
    )


def _tree(roots: Sequence[int]) -> set[psutil.Process]:
    tree = set()
    for pid in roots:
        try:
            root = psutil.Process(pid)
            tree |= {root, *root.children(recursive=True)}
        except psutil.NoSuchProcess:
            raise ProofError(f"process {pid}, whose CPU time is to be counted, does not run") from None
    return tree


def _spent(process: psutil.Process) -> float:
    """CPU time of one process and of the children it has waited for."""
    try:
        times = process.cpu_times()
    except psutil.AccessDenied:
        raise ProofError(
            f"the CPU time of process {process.pid} may not be read: run as its user, or do not count it"
        ) from None
    own = (
        time.clock_gettime(_cpu_clock(process.pid)) if sys.platform == "linux" else times.user + times.system
    )
    return float(own + times.children_user + times.children_system)


def _cpu_clock(pid: int) -> int:
    """The id of a process's CPU-time clock, as `clock_getcpuclockid` makes it (linux/posix-timers.h)."""
    scheduler_clock = 2
    return (~pid << 3) | scheduler_clock


def _named(pids: Sequence[int]) -> str:
    return ("process " if len(pids) == 1 else "processes ") + ", ".join(map(str, pids))
