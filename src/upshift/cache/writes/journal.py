"""The journal of one process: files to which writes are appended, and which the kernel knows the owner of.

A journal is a lock file and segments, all with its name::

    1f9c….lock              locked for as long as the process lives
    1f9c….00000001.journal  full: nothing is appended any more
    1f9c….00000002.journal  the one that is appended to

What is in a segment is needed until each write in it has been flushed, or another of its key stands in a
later one. Segments are removed from the oldest on, never one in between: the older write of a key must not
outlive the younger one, or a replay would bring it back.

A journal whose lock is free is that of a dead process. Whoever takes the lock has it (`orphans`).
"""

from __future__ import annotations

import fcntl
import logging
import os
from contextlib import suppress
from typing import TYPE_CHECKING
from uuid import uuid4

from upshift.cache.writes.records import MAGIC, Replayed, replay
from upshift.locks import open_own, try_lock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

logger = logging.getLogger("upshift.cache")

SEGMENT_BYTES = 8 * 2**20
"""Bytes from which on a segment is full."""


class Journal:
    """Appends records to files of its own.

    Args:
        folder: where they are; it must exist.
        segment_bytes: bytes from which on a file is full.

    Raises:
        OSError: a file cannot be made there.
    """

    def __init__(self, folder: Path, segment_bytes: int = SEGMENT_BYTES) -> None:
        self._folder = folder
        self._segment_bytes = segment_bytes
        self._name, self._lock = _locked(folder)
        self._sizes: dict[int, int] = {}
        self._number = 0
        self._file: int | None = None

    @property
    def size(self) -> int:
        """Bytes that the files take."""
        return sum(self._sizes.values())

    @property
    def oldest(self) -> int:
        """The number of the oldest segment that is there."""
        return min(self._sizes, default=self._number)

    def append(self, data: bytes, *, is_durable: bool) -> int:
        """Append records, and return the number of the segment in which they are.

        Args:
            data: the records.
            is_durable: whether to return only when the disk has them.

        Raises:
            OSError: they are not there, and nothing of them was acknowledged.
        """
        if self._file is None or self._sizes[self._number] >= self._segment_bytes:
            self._begin()
        assert self._file is not None
        try:
            _write(self._file, data)
            if is_durable:
                sync(self._file)
        except BaseException:
            self._abandon()
            raise
        self._sizes[self._number] += len(data)
        return self._number

    def trim(self, oldest_needed: int | None) -> None:
        """Remove segments that nobody needs.

        Args:
            oldest_needed: the number of the oldest one that is needed; None if none is.
        """
        if oldest_needed is None and self._sizes.get(self._number, 0) >= self._segment_bytes:
            self._seal()
        for number in sorted(self._sizes):
            if self._is_open(number) or (oldest_needed is not None and number >= oldest_needed):
                return
            self._remove(number)

    def close(self, *, is_needed: bool) -> None:
        """Give the journal up, to be replayed by whoever comes next, or for good.

        Args:
            is_needed: whether there is something to be replayed.
        """
        self._seal()
        if not is_needed:
            self.trim(None)
            self._path("lock").unlink(missing_ok=True)
        os.close(self._lock)

    def forget(self) -> None:
        """In a forked child: the files are the parent's."""
        # Closing takes no lock away that the parent has as well.
        if self._file is not None:
            os.close(self._file)
        os.close(self._lock)

    def _begin(self) -> None:
        self._seal()
        self._number += 1
        path = self._segment(self._number)
        file = open_own(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND)
        try:
            _write(file, MAGIC)
            sync_folder(self._folder)
        except OSError:
            os.close(file)
            path.unlink(missing_ok=True)
            raise
        self._file = file
        self._sizes[self._number] = len(MAGIC)

    def _seal(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            os.close(file)

    def _abandon(self) -> None:
        """Append nothing more to a file: after a failure nobody knows what of it is on the disk."""
        if self._file is not None:
            with suppress(OSError):
                os.ftruncate(self._file, self._sizes[self._number])
        self._seal()

    def _is_open(self, number: int) -> bool:
        return self._file is not None and number == self._number

    def _remove(self, number: int) -> None:
        self._segment(number).unlink(missing_ok=True)
        del self._sizes[number]
        sync_folder(self._folder)  # before the next one is removed

    def _segment(self, number: int) -> Path:
        return self._path(f"{number:08}.journal")

    def _path(self, ending: str) -> Path:
        return self._folder / f"{self._name}.{ending}"


class Orphan:
    """The journal of a dead process, whose lock is ours.

    Args:
        folder: where it is.
        name: its name.
        lock: the lock file, which is open and locked.
    """

    def __init__(self, folder: Path, name: str, lock: int) -> None:
        self._folder = folder
        self._name = name
        self._lock = lock

    def replay(self) -> Replayed:
        """Return what is to be flushed.

        Raises:
            OSError: it cannot be read.
        """
        return replay(_content(path) for path in self._segments())

    def remove(self) -> None:
        """Remove the journal: what was to be flushed is somebody else's now."""
        for path in self._segments():
            path.unlink()
            sync_folder(self._folder)
        (self._folder / f"{self._name}.lock").unlink()
        sync_folder(self._folder)

    def close(self) -> None:
        """Let go of the lock."""
        os.close(self._lock)

    def _segments(self) -> list[Path]:
        return sorted(self._folder.glob(f"{self._name}.*.journal"))


def orphans(folder: Path) -> Iterator[Orphan]:
    """Yield the journals in a folder whose processes are dead; each is closed when the next is asked for."""
    for path in sorted(folder.glob("*.lock")):
        try:
            file = open_own(path, os.O_RDWR)
        except OSError:
            continue  # it has been removed meanwhile, or is another user's
        orphan = Orphan(folder, path.stem, file)
        try:
            if try_lock(file) and os.fstat(file).st_nlink:
                yield orphan
        finally:
            orphan.close()


def sync(file: int) -> None:
    """Return when the disk has what was written to a file.

    Raises:
        OSError: it has not.
    """
    if hasattr(fcntl, "F_FULLFSYNC"):  # macOS: fsync stops at the drive's cache
        fcntl.fcntl(file, fcntl.F_FULLFSYNC)
    else:
        os.fdatasync(file)


def sync_folder(folder: Path) -> None:
    """Return when the disk has the names of the files in a folder.

    Raises:
        OSError: it has not.
    """
    file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def _locked(folder: Path) -> tuple[str, int]:
    """Make a lock file, and return its name and the file, which is locked."""
    while True:
        name = uuid4().hex
        file = open_own(folder / f"{name}.lock", os.O_RDWR | os.O_CREAT | os.O_EXCL)
        # Somebody may have taken it for a dead one's before it was locked, and removed it.
        if try_lock(file) and os.fstat(file).st_nlink:
            return name, file
        os.close(file)


def _write(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]


def _content(path: Path) -> bytes:
    file = open_own(path, os.O_RDONLY)
    with os.fdopen(file, "rb") as opened:
        return opened.read()
