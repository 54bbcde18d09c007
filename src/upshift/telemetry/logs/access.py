"""The access log: a line for each request, made when it is over."""

from __future__ import annotations

import logging
from random import random
from threading import Lock
from time import perf_counter, time
from typing import TYPE_CHECKING

from upshift.record.fork import after_fork
from upshift.record.model import SERVER_ERROR

if TYPE_CHECKING:
    from collections.abc import Callable

    from upshift.record import Record

MAX_BUFFER_BYTES = 256 * 1024
"""Bytes of lines that wait for `flush` at most; more are handed on at once."""


class AccessLog:
    """Takes closed records and writes their lines, those taken before one `flush` together.

    The level is `error` for exceptions and statuses from 500 up, `warning` for slow requests and for clients
    that went away in the midst of an answer, else `info`.
    Requests of the last kind may be sampled; the others always have a line.

    Records tell the time by a clock that never jumps. Each batch asks anew how that clock stands to the
    wall's; so a wall clock that is moved puts no more than the lines of one batch, a tenth of a second, out
    of order.

    Args:
        append: appends the line of a record to a buffer, given its level and the time of its end.
        write: takes finished lines.
        write_errors: takes those of level `error` as well.
        level: the level from which on lines are written, by its number in `logging`.
        slow_request_seconds: what counts as slow.
        sample_rate: share of the ordinary requests that have a line, from 0 to 1.
    """

    def __init__(  # noqa: PLR0913 - where lines go to, and which ones
        self,
        append: Callable[[bytearray, Record, str, float], None],
        write: Callable[[bytes], None],
        write_errors: Callable[[bytes], None] | None = None,
        *,
        level: int = logging.INFO,
        slow_request_seconds: float = 1.0,
        sample_rate: float = 1.0,
    ) -> None:
        self._append = append
        self._write = write
        self._write_errors = write_errors
        self._info = level <= logging.INFO
        self._warning = level <= logging.WARNING
        self._error = level <= logging.ERROR
        self._slow = slow_request_seconds
        self._sample_rate = sample_rate
        self._lines = bytearray()
        self._error_lines = bytearray()
        self._offset = 0.0
        # Records come from whoever drains, `flush` from whoever asks for it.
        self._lock = Lock()
        after_fork(self._forget)

    def take(self, record: Record) -> None:
        """Make the line of a closed record, if it is to have one."""
        slow = self._slow
        if (record.error is not None or record.status >= SERVER_ERROR) and record.is_failed:
            level, wanted = "error", self._error
        elif record.error is not None or (record.seconds >= slow and record.answer_seconds >= slow):
            level, wanted = "warning", self._warning
        else:
            level = "info"
            wanted = self._info and (self._sample_rate >= 1.0 or random() < self._sample_rate)  # noqa: S311 - sampling, not secrets
        if not wanted:
            return
        with self._lock:
            lines = self._lines
            start = len(lines)
            if not start:
                self._offset = time() - perf_counter()
            try:
                self._append(lines, record, level, self._offset + record.started + record.seconds)
            except BaseException:
                del lines[start:]  # half a line would spoil the next one
                raise
            if level == "error" and self._write_errors is not None:
                self._error_lines += lines[start:]
            if start > MAX_BUFFER_BYTES:
                self._flush()

    def flush(self) -> None:
        """Hand on the lines made since the last time, in one piece."""
        with self._lock:
            self._flush()

    def _forget(self) -> None:
        """In a forked child: the lines are the parent's, and so is who may hold the lock."""
        self._lock = Lock()
        self._lines.clear()
        self._error_lines.clear()

    def _flush(self) -> None:
        if self._lines:
            lines = bytes(self._lines)
            self._lines.clear()
            self._write(lines)
        if self._error_lines and self._write_errors is not None:
            lines = bytes(self._error_lines)
            self._error_lines.clear()
            self._write_errors(lines)
