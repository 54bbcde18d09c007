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

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from upshift.errors import MissingExtraError, ProofError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import ModuleType

ATTEMPTS = 10
"""Readings tried before giving up on a tree whose processes come and go."""


def cpu_seconds(roots: Sequence[int]) -> float:
    """CPU time that processes and all their descendants have used, in seconds.

    Only differences between two readings of one tree mean anything.

    Args:
        roots: process ids; one that descends from another is counted once.

    Raises:
        ProofError: a root does not run, may not be read, or its descendants come and go too fast to count.
        MissingExtraError: psutil is not installed and this is not Linux.

    Example:
        >>> import os
        >>> before = cpu_seconds([os.getpid()])
        >>> cpu_seconds([os.getpid()]) > before
        True
    """
    source = _LINUX if sys.platform == "linux" else _PSUTIL
    for _ in range(ATTEMPTS):
        tree = _tree(roots, source)
        try:
            total = sum(map(source.seconds, tree))
        except ProcessLookupError:
            continue
        # A child that ended meanwhile may be counted twice (in its parent, too) or not at all: read again.
        if _tree(roots, source) == tree:
            return total
    raise ProofError(
        f"the CPU time of {', '.join(map(str, roots))} cannot be counted: child processes start and end "
        "faster than they can be read; let them serve more than one request each"
    )


class _Source(NamedTuple):
    """Where processes are read; both raise ProcessLookupError for one that does not run.

    Attributes:
        children: the ids of a process's children.
        seconds: CPU time of a process and of the children it has waited for.
    """

    children: Callable[[int], list[int]]
    seconds: Callable[[int], float]


def _tree(roots: Sequence[int], source: _Source) -> set[int]:
    """The roots and their descendants."""
    tree: set[int] = set()
    found = list(roots)
    while found:
        pid = found.pop()
        if pid in tree:
            continue
        try:
            found += source.children(pid)
        except ProcessLookupError:
            if pid in roots:
                raise ProofError(f"process {pid}, whose CPU time is to be counted, does not run") from None
            continue
        tree.add(pid)
    return tree


def _linux_children(pid: int) -> list[int]:
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
    except FileNotFoundError as error:
        raise ProcessLookupError from error
    return [int(child) for task in tasks for child in _read(task / "children").split()]


def _linux_seconds(pid: int) -> float:
    # proc_pid_stat(5): the fields after the name, which stands in parentheses and may hold any character.
    fields = _read(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()
    if not fields:
        raise ProcessLookupError
    ended_children = (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")
    try:
        return ended_children + time.clock_gettime(_cpu_clock(pid))
    except OSError as error:
        raise ProcessLookupError from error


def _read(path: Path) -> str:
    """The text of a file below /proc; "" when its process or thread has ended."""
    try:
        return path.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _cpu_clock(pid: int) -> int:
    """The id of a process's CPU-time clock, as `clock_getcpuclockid` makes it (linux/posix-timers.h)."""
    scheduler_clock = 2
    return (~pid << 3) | scheduler_clock


def _psutil_children(pid: int) -> list[int]:
    psutil = _psutil()
    try:
        return [child.pid for child in psutil.Process(pid).children()]
    except psutil.NoSuchProcess as error:
        raise ProcessLookupError from error


def _psutil_seconds(pid: int) -> float:
    psutil = _psutil()
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.NoSuchProcess as error:
        raise ProcessLookupError from error
    except psutil.AccessDenied as error:
        raise ProofError(
            f"the CPU time of process {pid} may not be read: run as its user, or do not count it"
        ) from error
    return float(times.user + times.system + times.children_user + times.children_system)


def _psutil() -> ModuleType:
    try:
        import psutil
    except ImportError as error:
        raise MissingExtraError("reading CPU time on this system", "load") from error
    module: ModuleType = psutil
    return module


_LINUX = _Source(_linux_children, _linux_seconds)
_PSUTIL = _Source(_psutil_children, _psutil_seconds)
