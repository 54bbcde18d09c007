"""Standard error, and what may be behind it: a terminal, a file, a pipe whose reader has gone or hangs."""

from __future__ import annotations

import os
import select
import sys

PATIENCE_SECONDS = 0.5
"""How long to wait for a reader before its slowness counts as a fault."""


class StreamSink:
    """An open file of which nothing is known. It is never written to while that would block.

    Several processes may have the same pipe, and the system mixes writes that are longer than `PIPE_BUF`
    (4096 bytes on Linux). So lines are written whole, a few at a time; only a longer line may be torn.

    Source: POSIX, write(): "Pipe or FIFO".
    """

    def __init__(self, file: int) -> None:
        self._file = file

    def write(self, data: bytes, start: int) -> int:
        """Write some of the lines; see `upshift.record.writer.Sink`."""
        if not _is_ready(self._file, PATIENCE_SECONDS):
            raise TimeoutError(f"nobody has read from it for {PATIENCE_SECONDS} s")
        end = data.rfind(b"\n", start, start + select.PIPE_BUF) + 1 or start + select.PIPE_BUF
        return start + os.write(self._file, data[start:end])

    def after_fork(self) -> None:
        """Nothing is the parent's alone."""

    def close(self) -> None:
        """The file is the process's own, and stays open."""


def standard_error() -> int | None:
    """Return the number of the standard error file; None in a process that was started without one."""
    return None if sys.__stderr__ is None else sys.__stderr__.fileno()


def say(line: bytes) -> None:
    """Write to standard error if that works at once, else not."""
    file = standard_error()
    try:
        if file is not None and _is_ready(file, 0):
            os.write(file, line[: select.PIPE_BUF])
    except OSError:
        pass  # there is nobody left to tell


def _is_ready(file: int, seconds: float) -> bool:
    poll = select.poll()
    poll.register(file, select.POLLOUT)
    # A reader that has gone counts as ready: the write then tells why it fails.
    return bool(poll.poll(seconds * 1e3))
