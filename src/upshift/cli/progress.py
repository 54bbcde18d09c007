"""What a command is doing, while it does it."""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Self

QUIET_SECONDS = 10.0
"""Where lines stay, as in the log of a build, seconds from one to the next."""

_CLEAR = "\r\x1b[K"
_WIDTH = 79  # a longer line would wrap, and what wraps cannot be overwritten


class ProgressLine:
    """Shows at a terminal one line that changes, and elsewhere a line now and then.

    Args:
        stream: where to; standard error where none is given, for standard output has the answer.

    Leaving its `with` block takes the line away. A stream that cannot be written to is no reason to stop.
    """

    def __init__(self, stream: IO[str] | None = None) -> None:
        self._stream = stream or sys.stderr
        self._is_terminal = self._stream.isatty()
        self._quiet_until = time.monotonic() + QUIET_SECONDS

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()

    def show(self, doing: str) -> None:
        """Show what is being done."""
        line = "".join(each if each.isprintable() else " " for each in doing)[:_WIDTH]
        if self._is_terminal:
            self._write(_CLEAR + line)
        elif time.monotonic() >= self._quiet_until:
            self._write(line + "\n")
            self._quiet_until = time.monotonic() + QUIET_SECONDS

    def clear(self) -> None:
        """Take the line away, so that something else can be printed."""
        if self._is_terminal:
            self._write(_CLEAR)
        self._quiet_until = time.monotonic() + QUIET_SECONDS

    def _write(self, text: str) -> None:
        with suppress(OSError, ValueError):
            self._stream.write(text)
            self._stream.flush()
