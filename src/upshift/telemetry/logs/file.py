"""A log file that several processes write to, and that may be moved, removed or truncated at any time.

A file is opened for appending and lines are written whole, so the kernel puts the lines of all processes one
after the other. Before it writes, a process looks whether the path still leads to the file that it has open,
and opens it anew where it does not. Whoever finds the file large takes a lock, looks again, and moves the
files aside; nobody else need stop for that. A line written by one who had looked just before lands in the
file that was moved, and is not lost.
"""

from __future__ import annotations

import errno
import os
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from upshift.errors import SettingsError
from upshift.locks import open_own, try_lock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CHUNK = 64 * 1024
"""Bytes written at once, but for longer lines; files grow beyond their size by no more for each process."""

MODE = 0o640
"""The permissions of new files: the group may read them, so that a log shipper can."""

LOCK_SECONDS = 1.0
"""How long to wait for others who move files aside."""

RETRY_SECONDS = 60.0
"""How long to go on with a large file after it could not be moved aside."""

# What stays so until somebody thinks again: folders, links, pipes, sockets, devices, files of others (EPERM),
# and file systems without locks.
_REFUSED = frozenset(
    (errno.EISDIR, errno.ELOOP, errno.ENXIO, errno.EPERM, errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
)


class FileSink:
    """A log file.

    Args:
        path: the file.
        rotate_bytes: size from which on it is moved aside to `path.1`, that to `path.2`
            and so on; 0 for never.
        rotate_count: files moved aside that are kept; 0 for never moving any.
    """

    def __init__(self, path: Path, rotate_bytes: int, rotate_count: int) -> None:
        self._path = path
        self._limit = rotate_bytes if rotate_count else 0
        self._count = rotate_count
        self._file: int | None = None
        self._lock: int | None = None
        self._identity = (0, 0)
        self._is_torn = False
        self._rotate_from = 0.0

    def write(self, data: bytes, start: int) -> int:
        """Write some of the lines; see `upshift.record.writer.Sink`."""
        end = data.rfind(b"\n", start, start + CHUNK) + 1 or data.find(b"\n", start) + 1 or len(data)
        file, size = self._follow()
        if (
            self._limit
            and size
            and size + end - start > self._limit
            and time.monotonic() >= self._rotate_from
        ):
            self._rotate(end - start)
            file, _ = self._follow()
        # After half a line, which a full disk leaves, the whole line is written again on a line of its own.
        lead = b"\n" if self._is_torn else b""
        written = os.write(file, lead + data[start:end]) - len(lead)
        self._is_torn = False
        if written == end - start:
            return end
        reached = start + max(written, 0)
        if data[reached : reached + 1] == b"\n":
            return reached  # but for its newline, that line is there
        whole = max(data.rfind(b"\n", start, reached) + 1, start)
        self._is_torn = whole < reached
        return whole

    def after_fork(self) -> None:
        """The parent's lock would be held as long as the child lives."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def close(self) -> None:
        """Let go of the file."""
        file, self._file = self._file, None
        if file is not None:
            os.close(file)

    def _follow(self) -> tuple[int, int]:
        """The file that the path leads to, and its size."""
        try:
            there = self._path.lstat()
        except FileNotFoundError:
            there = None
        if self._file is None or there is None or (there.st_dev, there.st_ino) != self._identity:
            return self._open()
        return self._file, there.st_size

    def _open(self) -> tuple[int, int]:
        # At no time does `_file` name a file that is closed: a fork may come in between.
        self.close()
        file = open_own(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT, MODE)
        status = os.fstat(file)
        self._identity = (status.st_dev, status.st_ino)
        self._is_torn = _ends_torn(file)
        self._file = file
        return file, status.st_size

    def _rotate(self, coming: int) -> None:
        try:
            with self._locked():
                if self._follow()[1] + coming <= self._limit:
                    return  # another process was faster
                numbers = range(1, self._count + 1)
                free = next((number for number in numbers if not self._aside(number).exists()), self._count)
                for number in range(free, 1, -1):
                    self._aside(number - 1).replace(self._aside(number))
                self._path.replace(self._aside(1))
        except OSError:
            self._rotate_from = time.monotonic() + RETRY_SECONDS
            raise

    def _aside(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")

    @contextmanager
    def _locked(self) -> Iterator[None]:
        path = _lock_of(self._path)
        self._lock = open_own(path, os.O_RDWR | os.O_CREAT)
        try:
            deadline = time.monotonic() + LOCK_SECONDS
            while not try_lock(self._lock):
                if time.monotonic() > deadline:
                    raise TimeoutError(f"somebody has held {path} for {LOCK_SECONDS} s")
                time.sleep(0.005)
            yield
        finally:
            lock, self._lock = self._lock, None
            os.close(lock)


def check_file(variable: str, path: Path) -> None:
    """Refuse a path that several processes could not share safely, or that others could have put there.

    Folders that do not exist and files that must not be written are no such thing: they may be mended while
    the process runs.

    Args:
        variable: where the path was set.
        path: the file, which need not exist.

    Raises:
        SettingsError: it is a folder, a link, a pipe or a device, belongs to another user or can be written
            by others; or files cannot be locked there.
    """
    try:
        _try(path)
    except OSError as fault:
        if fault.errno in _REFUSED:
            raise SettingsError(
                f"{variable} is {str(path)!r}, which cannot be a log file: {fault.strerror}. Take a plain"
                f" file on a local disk, owned by this user; for standard error, leave {variable} empty"
            ) from fault


def _try(path: Path) -> None:
    with suppress(FileNotFoundError):
        os.close(open_own(path, os.O_RDWR | os.O_APPEND))
    lock = open_own(_lock_of(path), os.O_RDWR | os.O_CREAT)
    try:
        try_lock(lock)
    finally:
        os.close(lock)


def _lock_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.lock")


def _ends_torn(file: int) -> bool:
    """Whether somebody was killed in the midst of a line; looked at twice, as they may still be writing."""
    size = -1
    while size != (size := os.fstat(file).st_size):
        if not size or os.pread(file, 1, size - 1) == b"\n":
            return False
        time.sleep(0.01)
    return True
