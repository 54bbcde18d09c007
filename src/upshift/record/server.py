"""Which server a process is a worker of, so that its workers find each other; and what servers leave."""

from __future__ import annotations

import multiprocessing
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from upshift.locks import open_own, try_lock

if TYPE_CHECKING:
    import re
    from collections.abc import Callable

# The fields of /proc/<pid>/stat after the command's name.
_STARTED, _STACK = 19, 25


def find_server() -> int | None:
    """Return the process id of the server whose worker this process is, or None where it is no worker.

    Uvicorn and Granian start workers with `multiprocessing`, which knows the parent. Gunicorn forks them, and
    marks its environment before it loads any application; with `preload_app` it loads it before it forks.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:
        return parent.pid
    if not os.environ.get("SERVER_SOFTWARE", "").startswith("gunicorn"):
        return None
    # The kernel puts each program's stack at a random address, which a fork shares with its parent. So
    # this tells Gunicorn's worker from Gunicorn itself, whose parent is a shell or an init.
    own, parents = _stat_field(os.getpid(), _STACK), _stat_field(os.getppid(), _STACK)
    return os.getpid() if own and own != parents else os.getppid()


def started_at(pid: int) -> int:
    """Return when a process began, which tells it from a later one of its number; 0 where nobody tells."""
    return _stat_field(pid, _STARTED) or 0


def is_alive(pid: int, started: int) -> bool:
    """Whether the process of a number lives that began then."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return started_at(pid) == started


def remove_left(folder: Path, name: re.Pattern[str], is_in_use: Callable[[int], bool]) -> None:
    """Remove this user's files from a folder that no living server or worker uses.

    Args:
        folder: the folder.
        name: what they are called, all of it; its groups `pid` and `started` name the server.
        is_in_use: tells of an open file whether another process uses it.
    """
    with suppress(OSError):
        for path in folder.glob(f"upshift-{os.geteuid()}-*"):
            match = name.fullmatch(path.name)
            if match and not is_alive(int(match["pid"]), int(match["started"])):
                with suppress(OSError):
                    _remove_unused(path, is_in_use)


def _remove_unused(path: Path, is_in_use: Callable[[int], bool]) -> None:
    file = open_own(path, os.O_RDWR)
    try:
        # A server in another container looks dead from here; its workers' locks show that it is not.
        if try_lock(file) and not is_in_use(file):
            path.unlink()
    finally:
        os.close(file)


def _stat_field(pid: int, field: int) -> int | None:
    """A number of a process's status on Linux; None elsewhere, and where it may not be seen."""
    try:
        status = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    # The command's name comes before, in parentheses, and may itself contain any character.
    return int(status.rpartition(b")")[2].split()[field])
