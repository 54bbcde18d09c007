"""Opening a file safely, and the locks on it that the kernel takes from the dead."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_IS_LINUX = sys.platform == "linux"
# Locks of bytes that belong to the open file, not to the process, let two instances in one process tell each
# other apart. Where there are none (macOS), two of them on one file count as one process, for gauges only.
_SET_LOCK, _GET_LOCK = (fcntl.F_OFD_SETLK, fcntl.F_OFD_GETLK) if _IS_LINUX else (fcntl.F_SETLK, fcntl.F_GETLK)


def open_own(path: Path, flags: int, mode: int = 0o600) -> int:
    """Open a file that nobody else can have put there.

    Args:
        path: the file.
        flags: as for `os.open`.
        mode: the permissions of a new file.

    Raises:
        OSError: it cannot be opened, is a link, belongs to another user, or can be written by others.
    """
    # Without O_NONBLOCK, a pipe under this name would hang the process.
    file = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, mode)
    status = os.fstat(file)
    if (
        not stat.S_ISREG(status.st_mode)
        or status.st_nlink > 1
        or status.st_uid != os.geteuid()
        or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    ):
        os.close(file)
        raise PermissionError(
            errno.EPERM, "must be a plain file of this user, writable by nobody else", str(path)
        )
    return file


def try_lock(file: int) -> bool:
    """Take the lock of the file if it is free."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def unlock(file: int) -> None:
    """Give up the lock of the file."""
    fcntl.flock(file, fcntl.LOCK_UN)


def lock_byte(file: int, position: int) -> bool:
    """Take the lock of a byte, which need not exist, until the file is closed; False if another has it."""
    try:
        fcntl.fcntl(file, _SET_LOCK, _pack(fcntl.F_WRLCK, position, 1))
    except (BlockingIOError, PermissionError):
        return False
    return True


def unlock_byte(file: int, position: int) -> None:
    """Give up the lock of a byte."""
    fcntl.fcntl(file, _SET_LOCK, _pack(fcntl.F_UNLCK, position, 1))


def is_locked(file: int, position: int, count: int) -> bool:
    """Tell whether anybody else holds the lock of one of these bytes."""
    answer = fcntl.fcntl(file, _GET_LOCK, _pack(fcntl.F_WRLCK, position, count))
    return _unpack_kind(answer) != fcntl.F_UNLCK


def _pack(kind: int, start: int, length: int) -> bytes:
    """The C `struct flock`."""
    if _IS_LINUX:
        return struct.pack("hhqqi0q", kind, os.SEEK_SET, start, length, 0)
    return struct.pack("qqihh", start, length, 0, kind, os.SEEK_SET)


def _unpack_kind(flock: bytes) -> int:
    kind: int = struct.unpack_from("h", flock, 0 if _IS_LINUX else 20)[0]
    return kind
