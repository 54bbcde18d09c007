"""One thing that was logged, whichever library it was logged with."""

from __future__ import annotations

import logging
import traceback
from typing import TYPE_CHECKING, Any, NamedTuple

from upshift.telemetry.logs.values import CUT, described, shortened

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

MAX_MESSAGE = 16_000
"""Characters of a message."""

MAX_TRACEBACK = 32_000
"""Characters of a traceback; of a longer one the middle is left out."""

# Uvicorn repeats its messages with colours in `color_message`.
_NO_EXTRAS = frozenset(vars(logging.makeLogRecord({}))) | {"asctime", "color_message", "message", "taskName"}


class Event(NamedTuple):
    """One thing that was logged.

    Attributes:
        created: when, in seconds since 1970.
        level: the name of the level, lower case.
        message: what happened.
        logger: the logger's name; "" where it has none.
        fields: what else was said.
        error: class name of the exception; "" without one.
        error_message: what the exception said.
        traceback: where it came from, with the exceptions that caused it.
        stack: the stack at the call, where that was asked for.
        exception: the exception itself.
    """

    created: float
    level: str
    message: str
    logger: str
    fields: Mapping[str, Any]
    error: str = ""
    error_message: str = ""
    traceback: str = ""
    stack: str = ""
    exception: BaseException | None = None


def event_of(record: logging.LogRecord) -> Event:
    """Return what a record of the standard library says.

    Arguments that do not fit their message are said beside it.

    Example:
        >>> record = logging.makeLogRecord({"msg": "%d sold", "args": ("x",)})
        >>> event_of(record).message
        "%d sold (its arguments do not fit: ('x',))"
    """
    fields = {name: value for name, value in record.__dict__.items() if name not in _NO_EXTRAS}
    try:
        message = record.getMessage()
    except Exception:  # noqa: BLE001 - whatever an argument does when it is formatted
        message = f"{described(record.msg)} (its arguments do not fit: {described(record.args)})"
    event = Event(
        record.created,
        record.levelname.lower(),
        message.rstrip("\n") if len(message) <= MAX_MESSAGE else shortened(message, MAX_MESSAGE),
        record.name,
        fields,
    )
    if record.exc_info:
        event = with_exception(event, record.exc_info[1])
    elif record.exc_text:
        event = event._replace(traceback=without_middle(record.exc_text))
    if record.stack_info:
        event = event._replace(stack=without_middle(record.stack_info))
    return event


def with_exception(event: Event, exception: BaseException | None) -> Event:
    """Return the event with what an exception tells."""
    if exception is None:
        return event
    return event._replace(
        error=type(exception).__name__,
        error_message=shortened(described_exception(exception), MAX_MESSAGE),
        traceback=without_middle(_traceback(exception, exception.__traceback__)),
        exception=exception,
    )


def described_exception(exception: BaseException) -> str:
    """Return what an exception says, without its class name."""
    try:
        return str(exception)
    except Exception:  # noqa: BLE001 - whatever it does
        return described(exception)


def without_middle(text: str) -> str:
    """Return a long text without its middle: of a traceback, both ends are needed."""
    if len(text) <= MAX_TRACEBACK:
        return text
    half = MAX_TRACEBACK // 2
    return f"{text[:half]}\n{CUT} ({len(text) - MAX_TRACEBACK} more characters)\n{text[-half:]}"


def _traceback(exception: BaseException, where: TracebackType | None) -> str:
    try:
        return "".join(traceback.format_exception(type(exception), exception, where)).rstrip("\n")
    except Exception:  # noqa: BLE001 - an exception may be as broken as any object
        return described(exception)
