"""Events and requests as lines for people: short, and coloured on a terminal."""

from __future__ import annotations

import os
import re
import time
from typing import TYPE_CHECKING, Any

import msgspec

from upshift.record import find_record
from upshift.record.model import MAX_METHOD, MAX_TEXT
from upshift.telemetry.logs.access_lines import LOGGER
from upshift.telemetry.logs.values import encodable

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextvars import ContextVar

    from upshift.record import Record
    from upshift.telemetry.logs.event import Event
    from upshift.telemetry.logs.values import Values

# Control characters, line and paragraph separators, what turns the direction of writing, lone surrogates:
# with them a value could pretend to be another line, or take over the terminal.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_UNSAFE_IN_BLOCK = re.compile(_UNSAFE.pattern.replace("\x00-\x1f", "\x00-\x09\x0b-\x1f"))
_PLAIN_VALUE = re.compile(r"[^\s\"'=]+")

_RESET, _DIM, _CYAN = "\x1b[0m", "\x1b[2m", "\x1b[36m"
_OF_LEVEL = {
    "debug": "\x1b[2m",
    "info": "\x1b[32m",
    "warning": "\x1b[33m",
    "error": "\x1b[31m",
    "critical": "\x1b[1;31m",
}


def wants_colour(file: int) -> bool:
    """Tell whether to write colours to a file: a terminal that has them, and nobody set `NO_COLOR`.

    Source: https://no-color.org.
    """
    return os.isatty(file) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def harmless(text: str) -> str:
    r"""Return the text with control characters and the like written as escapes.

    Example:
        >>> harmless("a\x1b[2J\nb")
        'a\\x1b[2J\\nb'
    """
    return text if text.isascii() and text.isprintable() else _UNSAFE.sub(_escape, text)


class ConsoleLines:
    """Writes events for people, in local time.

    A line is one line, but for tracebacks and stacks, whose lines are indented: no value can pretend to be
    a line of its own.

    Args:
        current: holds the open request.
        values: makes what the application says fit to be written.
        colour: whether to write colours.
    """

    def __init__(self, current: ContextVar[Record | None], values: Values, *, colour: bool) -> None:
        self._current = current
        self._values = values
        self._colour = colour

    def line(self, event: Event) -> bytes:
        """Return the line, its newline included."""
        record = find_record(self._current, event.exception)
        said: dict[str, Any] = dict(event.fields)
        request_id = ""
        if record is not None:
            request_id = record.request_id
            if record.context:
                said = {**record.context, **said}
        blocks = (event.stack, event.traceback)
        return self._write(event.created, event.level, event.logger, event.message, said, request_id, blocks)

    def append(self, buffer: bytearray, record: Record, level: str, ended: float) -> None:
        """Append the line of a closed request.

        Args:
            buffer: where to.
            record: the request.
            level: the line's level.
            ended: when it ended, in seconds since 1970.
        """
        asked = f"{record.method[:MAX_METHOD]} {record.path[:MAX_TEXT]}"
        message = f"{asked} {record.status} {record.seconds * 1e3:.1f} ms"
        said: dict[str, Any] = {}
        if record.statements:
            said["statements"] = len(record.statements) + record.statements_dropped
            said["database_ms"] = round(sum(each.seconds for each in record.statements) * 1e3, 1)
        if record.cache_hits:
            said["cache_hits"] = record.cache_hits
        if record.error is not None:
            said["error"] = record.error
        said |= record.context or {}
        buffer += self._write(ended, level, LOGGER, message, said, record.request_id, ())

    def _write(  # noqa: PLR0913, PLR0917 - the parts of a line
        self,
        created: float,
        level: str,
        logger: str,
        message: str,
        said: Mapping[str, Any],
        request_id: str,
        blocks: tuple[str, ...],
    ) -> bytes:
        parts = [
            self._in(_DIM, _clock(created)),
            self._in(_OF_LEVEL.get(level, ""), f"{harmless(level.upper()):<8}"),
            self._in(_CYAN, harmless(logger)),
            harmless(message),
        ]
        parts += [
            f"{self._in(_DIM, harmless(name) + '=')}{_shown(value)}"
            for name, value in (self._values.of(said) if said else {}).items()
        ]
        if request_id:
            parts.append(self._in(_DIM, f"[{harmless(request_id)}]"))
        line = " ".join(parts) + "\n"
        for block in blocks:
            if block:
                safe = _UNSAFE_IN_BLOCK.sub(_escape, block)
                line += "".join(f"    {each}\n" for each in safe.split("\n"))
        return line.encode()

    def _in(self, colour: str, text: str) -> str:
        return f"{colour}{text}{_RESET}" if self._colour and colour else text


def _clock(seconds: float) -> str:
    try:
        return f"{time.strftime('%H:%M:%S', time.localtime(seconds))}.{int(seconds % 1 * 1e3):03d}"
    except (ValueError, OverflowError, OSError):
        return _clock(time.time())


def _shown(value: object) -> str:
    if isinstance(value, str) and _PLAIN_VALUE.fullmatch(value):
        return harmless(value)
    return harmless(msgspec.json.encode(encodable(value)).decode())


def _escape(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode()
