"""Events as lines of JSON, with field names of our own or those of the Elastic Common Schema."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from upshift.record import find_record
from upshift.telemetry.logs.timestamps import Timestamps
from upshift.telemetry.logs.values import Values, encodable

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Mapping
    from contextvars import ContextVar

    from upshift.record import Record
    from upshift.telemetry.logs.event import Event

ECS_VERSION = "8.17.0"
"""The version of the Elastic Common Schema that the names are from."""


class Names(NamedTuple):
    """What the fields of a line are called.

    Attributes:
        labels: the field that holds what the application says; None where that stands beside the others.
        constants: fields that every line has.
    """

    timestamp: str
    level: str
    message: str
    logger: str
    service: str
    request_id: str
    trace_id: str
    span_id: str
    route: str
    error: str
    error_message: str
    traceback: str
    stack: str
    labels: str | None
    constants: Mapping[str, str]


PLAIN = Names(
    timestamp="timestamp",
    level="level",
    message="message",
    logger="logger",
    service="service",
    request_id="request_id",
    trace_id="trace_id",
    span_id="span_id",
    route="route",
    error="error",
    error_message="error_message",
    traceback="traceback",
    stack="stack",
    labels=None,
    constants={},
)

# `http.route` is OpenTelemetry's name, as the schema has none. What the application says goes to `labels`:
# beside the others, a field `user` would be of another type than the schema's, and the line be refused.
ECS = Names(
    timestamp="@timestamp",
    level="log.level",
    message="message",
    logger="log.logger",
    service="service.name",
    request_id="http.request.id",
    trace_id="trace.id",
    span_id="span.id",
    route="http.route",
    error="error.type",
    error_message="error.message",
    traceback="error.stack_trace",
    stack="upshift.stack",
    labels="labels",
    constants={"ecs.version": ECS_VERSION},
)


class JsonLines:
    r"""Writes events as JSON, one line each: a newline within a value is written as an escape.

    Args:
        names: what the fields are called.
        service: the service's name.
        current: holds the open request.
        values: makes what the application says fit to be written.
        route_of: tells a request's route; where it is not given, that of a closed one.

    Example:
        >>> from contextvars import ContextVar
        >>> from upshift.telemetry.logs.event import Event
        >>> lines = JsonLines(PLAIN, "shop", ContextVar("current", default=None), Values())
        >>> line = lines.line(Event(0.0, "info", "two\nlines", "shop.orders", {"order": 7}))
        >>> line[58:]
        b'"message":"two\\nlines","logger":"shop.orders","service":"shop","order":7}\n'
    """

    def __init__(
        self,
        names: Names,
        service: str,
        current: ContextVar[Record | None],
        values: Values,
        route_of: Callable[[Record], str | None] = attrgetter("route"),
    ) -> None:
        self._names = names
        self._service = service
        self._current = current
        self._values = values
        self._route_of = route_of
        self._timestamps = Timestamps()
        self._encoder = msgspec.json.Encoder()

    def line(self, event: Event) -> bytes:
        """Return the line, its newline included."""
        names = self._names
        line: dict[str, Any] = {
            names.timestamp: self._timestamps.at(event.created),
            names.level: event.level,
            names.message: event.message,
            names.logger: event.logger,
            names.service: self._service,
            **names.constants,
        }
        said = event.fields
        record = find_record(self._current, event.exception)
        if record is not None:
            _add_request(line, names, record, self._route_of(record))
            if record.context:
                said = {**record.context, **said}
        if event.error or event.traceback or event.stack:
            _add_error(line, names, event)
        if said:
            line |= said_fields(self._values.of(said), line, names.labels)
        try:
            return self._encoder.encode(line) + b"\n"
        except UnicodeEncodeError:
            return self._encoder.encode(encodable(line)) + b"\n"


def said_fields(said: dict[str, Any], taken: Container[str], labels: str | None) -> dict[str, Any]:
    """Return what the application says as fields of a line; a name that is taken gets an underscore.

    Args:
        said: what it says, as `Values` returns it.
        taken: names of other fields of the line.
        labels: the field that holds all; None where they stand beside the others.
    """
    if labels is None:
        return {f"{name}_" if name in taken else name: value for name, value in said.items()}
    # The schema wants labels without dots, and without collections.
    plain = {
        name.replace(".", "_"): msgspec.json.encode(encodable(value)).decode()
        if isinstance(value, dict | list)
        else value
        for name, value in said.items()
    }
    return {labels: plain}


def _add_request(line: dict[str, Any], names: Names, record: Record, route: str | None) -> None:
    if record.request_id:
        line[names.request_id] = record.request_id
    if record.trace_id:
        line[names.trace_id] = record.trace_id
        line[names.span_id] = record.span_id
    if route is not None:
        line[names.route] = route


def _add_error(line: dict[str, Any], names: Names, event: Event) -> None:
    if event.error:
        line[names.error] = event.error
        line[names.error_message] = event.error_message
    if event.traceback:
        line[names.traceback] = event.traceback
    if event.stack:
        line[names.stack] = event.stack
