"""The file of a recording: one process's own, and no larger than was said."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from upshift.errors import RecordingError

if TYPE_CHECKING:
    from pathlib import Path

MODE = 0o600
"""The permissions of the file: statements may hold values, so it is its owner's alone."""


class RecordingSink:
    """Appends lines to a new file; of those that would make it too large, none.

    Args:
        path: the file; it must not exist.
        max_bytes: its size at most.

    Attributes:
        is_full: whether a line was left out for that.
        left_out: lines that were left out.

    Raises:
        RecordingError: the file exists, or cannot be made.
    """

    def __init__(self, path: Path, max_bytes: int) -> None:
        self.is_full = False
        self.left_out = 0
        self._path = path
        self._room = max_bytes
        self._last: bytes | None = None
        self._is_within_line = False
        self._file: int | None = _create(path)

    def write(self, data: bytes, start: int) -> int:
        """Write what there is room for; see `upshift.record.writer.Sink`."""
        if self._file is None:
            return len(data)
        end = len(data) if len(data) - start <= self._room else start
        if end == start and self._room > 0:
            end = max(data.rfind(b"\n", start, start + self._room) + 1, start)
        if end == start:
            self.is_full = True
            self._room = 0  # a shorter line may refer to what this one defines
            self.left_out += data.count(b"\n", start)
            return len(data)
        # Half a line is ended before others follow, where the rest of it was given up.
        if self._is_within_line and data is not self._last:
            os.write(self._file, b"\n")
        written = os.write(self._file, memoryview(data)[start:end])
        self._last = data if written < end - start else None
        self._is_within_line = data[start + written - 1 : start + written] != b"\n"
        self._room -= written
        return start + written

    def make_room(self, size: int) -> None:
        """Let the file become so many bytes larger than was said."""
        self._room += size

    def after_fork(self) -> None:
        """In a forked child: the file is the parent's."""
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        file, self._file = self._file, None
        if file is not None:
            os.close(file)


def _create(path: Path) -> int:
    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_NOFOLLOW, MODE)
    except OSError as error:
        if error.errno == errno.EEXIST:
            raise RecordingError(
                f"{path} exists, and a recording is never added to another: take a new name;"
                " {pid} in it stands for the process, where several of them record"
            ) from error
        raise RecordingError(f"{path} cannot be made: {error.strerror}") from error
