"""The handler on the root logger."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from upshift.record.writer import EXIT_SECONDS

if TYPE_CHECKING:
    from contextvars import ContextVar

    from upshift.record import Record
    from upshift.record.writer import Writer
    from upshift.telemetry.logs.formatter import Formatter
    from upshift.telemetry.logs.takeover import Takeover


class LogHandler(logging.Handler):
    """Hands what is logged to a writer, and errors to a second one.

    Two instances may be in one process, each with a handler on the root logger. Where both write to the same
    place, a line is written by the one whose request is open, and one outside of requests by the first.

    Args:
        formatter: makes the lines.
        writer: writes them.
        error_writer: writes those of errors as well.
        current: holds the open request.
        place: where the writer writes to; equal for handlers that would double each other's lines.

    Attributes:
        faults: lines that could not be made.
        takeover: what the handler has been put in place of.
        patience_seconds: how long `flush` may take.
        is_prompt: whether each line is written before the next thing happens, as the process may end.
    """

    def __init__(
        self,
        formatter: Formatter,
        writer: Writer,
        error_writer: Writer | None,
        current: ContextVar[Record | None],
        place: str,
    ) -> None:
        super().__init__()
        self.faults = 0
        self.patience_seconds = EXIT_SECONDS
        self.is_prompt = False
        self.takeover: Takeover | None = None
        self.formatter: Formatter = formatter
        self._writer = writer
        self._error_writer = error_writer
        self._current = current
        self._place = place

    def handle(self, record: logging.LogRecord) -> bool:
        """Emit the record unless a filter is against it; without the lock that other handlers need."""
        filtered: bool | logging.LogRecord = self.filter(record)
        if filtered:  # since Python 3.12, a filter may return another record
            self.emit(record if filtered is True else filtered)
        return bool(filtered)

    def emit(self, record: logging.LogRecord) -> None:
        """Hand the record's line on."""
        try:
            if len(logging.root.handlers) > 1 and self._is_anothers():
                return
            line = self.formatter.line(record)
            self._writer.write(line)
            if record.levelno >= logging.ERROR and self._error_writer is not None:
                self._error_writer.write(line)
            if self.is_prompt:
                self.flush()
        except Exception:  # noqa: BLE001 - whatever it is, the caller goes on
            self.faults += 1

    def flush(self) -> None:
        """Wait until what was logged is written, but not long; `logging` calls this when the process ends."""
        self._writer.flush(self.patience_seconds)
        if self._error_writer is not None:
            self._error_writer.flush(self.patience_seconds)

    def _is_anothers(self) -> bool:
        rivals = [
            each
            for each in logging.root.handlers
            if isinstance(each, LogHandler) and each._place == self._place
        ]
        if len(rivals) <= 1:
            return False
        chosen = next((each for each in rivals if each._current.get() is not None), rivals[0])
        return chosen is not self
