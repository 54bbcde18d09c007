"""Lines for the two ways in which Python programs log: the standard library's, and structlog's."""

from __future__ import annotations

import logging
import sys
import time
from typing import TYPE_CHECKING, Any, Protocol

from upshift.telemetry.logs.event import MAX_MESSAGE, Event, event_of, with_exception, without_middle
from upshift.telemetry.logs.values import described, shortened

if TYPE_CHECKING:
    from collections.abc import MutableMapping


class Lines(Protocol):
    """Writes events in some format."""

    def line(self, event: Event) -> bytes:
        """Return the line, its newline included."""


class Formatter(logging.Formatter):
    """A formatter for any handler of the standard library. It never raises, whatever is logged.

    Args:
        lines: the format.
    """

    def __init__(self, lines: Lines) -> None:
        super().__init__()
        self._lines = lines

    def format(self, record: logging.LogRecord) -> str:
        """Return the line without its newline."""
        return self.line(record).decode().removesuffix("\n")

    def line(self, record: logging.LogRecord) -> bytes:
        """Return the line, its newline included."""
        return self._lines.line(event_of(record))


class StructlogRenderer:
    """The last processor of a structlog chain: it returns the line as bytes, without its newline.

    It understands what structlog's own processors add (`level`, `logger`, `timestamp`, `exception`, `stack`),
    and `exc_info` and `stack_info` where nothing has taken them before.

    Args:
        lines: the format.
    """

    def __init__(self, lines: Lines) -> None:
        self._lines = lines

    def __call__(self, _logger: object, method: str, event_dict: MutableMapping[str, Any]) -> bytes:
        """Return the line."""
        fields = dict(event_dict)
        exception = _exception(fields.pop("exc_info", None))
        stack = fields.pop("stack", "")
        traceback = fields["exception"] if isinstance(fields.get("exception"), str) else ""
        if traceback:
            del fields["exception"]
        fields.pop("stack_info", None)
        # The line has a time of its own; one that was added as text would stand beside it.
        created = fields.pop("timestamp", None)
        event = Event(
            created if isinstance(created, float) else time.time(),
            described(fields.pop("level", method)).lower(),
            shortened(described(fields.pop("event", "")), MAX_MESSAGE),
            described(fields.pop("logger", "")),
            fields,
            traceback=without_middle(traceback),
            stack=without_middle(described(stack)),
        )
        return self._lines.line(with_exception(event, exception)).removesuffix(b"\n")


def _exception(said: object) -> BaseException | None:
    """The exception meant by `exc_info`, in the forms that the standard library takes."""
    if isinstance(said, BaseException):
        return said
    if isinstance(said, tuple) and len(said) == 3 and isinstance(said[1], BaseException):  # noqa: PLR2004 - type, value, traceback
        return said[1]
    return sys.exception() if said else None
