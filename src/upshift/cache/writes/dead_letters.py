"""Dead letters: writes that were given up, in a file that the processes of a folder share."""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING, NamedTuple

from upshift.cache.writes.journal import sync, sync_folder
from upshift.cache.writes.records import MAGIC, DeadPut, pack, unpack
from upshift.locks import open_own

if TYPE_CHECKING:
    from collections.abc import Iterator

    from upshift.cache.writes.records import Key

FILE = "dead-letters"

MAX_BYTES = 64 * 2**20
"""Bytes that the file may take; what has no room is not given up, and tried again."""


class DeadLetter(NamedTuple):
    """A write that was given up.

    Attributes:
        key: what it was for.
        data: the value as bytes.
        error: what its last flush raised.
    """

    key: Key
    data: bytes
    error: str


class DeadLetters:
    """The dead letters in a folder.

    Args:
        folder: where their file is.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def add(self, letter: DeadLetter) -> bool:
        """Keep a dead letter, durably; return whether there is room for it.

        Raises:
            OSError: it is not kept.
        """
        record = pack(DeadPut(*letter))
        with self._opened() as file:
            data = _content(file)
            size = len(data) - unpack(data)[1]
            if size + len(record) > MAX_BYTES:
                return False
            os.ftruncate(file, size)  # of one that was not written to its end
            os.pwrite(file, record if size else MAGIC + record, size)
            sync(file)
            return True

    def read(self) -> list[DeadLetter]:
        """Return the dead letters, the oldest first.

        Raises:
            OSError: the file cannot be read.
        """
        with self._opened() as file:
            return _letters(file)

    def remove(self, letters: list[DeadLetter]) -> None:
        """Remove some dead letters, and keep those that have come since they were read.

        Raises:
            OSError: they are all there still.
        """
        with self._opened() as file:
            gone = set(letters)
            kept = [each for each in _letters(file) if each not in gone]
            with NamedTemporaryFile(dir=self._folder, prefix=f"{FILE}-", delete=False) as new:
                new.write(b"".join([MAGIC, *(pack(DeadPut(*each)) for each in kept)]))
                new.flush()
                sync(new.fileno())
            Path(new.name).replace(self._folder / FILE)
            sync_folder(self._folder)

    @contextmanager
    def _opened(self) -> Iterator[int]:
        """Open the file in the length of a `with` block, for one process at a time."""
        path = self._folder / FILE
        while True:
            file = open_own(path, os.O_RDWR | os.O_CREAT)
            try:
                fcntl.flock(file, fcntl.LOCK_EX)
                if not os.fstat(file).st_nlink:
                    continue  # another process has put a new one in its place meanwhile
                sync_folder(self._folder)
                yield file
                return
            finally:
                os.close(file)


def _letters(file: int) -> list[DeadLetter]:
    return [
        DeadLetter(each.key, each.data, each.error)
        for each in unpack(_content(file))[0]
        if isinstance(each, DeadPut)
    ]


def _content(file: int) -> bytes:
    return os.pread(file, os.fstat(file).st_size, 0)
