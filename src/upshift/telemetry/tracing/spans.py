"""Spans made of closed records, in the words of OpenTelemetry's semantic conventions (1.44).

A request is a SERVER span, each of its statements a CLIENT span below it. The values in a statement's text
are taken out, for they may be anybody's. What the conventions have no name for is called `upshift.…`.

Sources: https://opentelemetry.io/docs/specs/semconv/http/http-spans/, …/database/database-spans/ and
…/registry/attributes/code/.
"""

from __future__ import annotations

import re
from time import perf_counter_ns, time_ns
from typing import TYPE_CHECKING

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, TraceFlags
from opentelemetry.trace.status import Status, StatusCode

from upshift.record import METHODS, known_method
from upshift.telemetry.operation import operation_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.sdk.resources import Resource

    from upshift.record import Record, Statement

MAX_STATEMENT_SPANS = 128
"""Statements of one request that become spans; `upshift.statements.omitted` tells how many did not."""

MAX_QUERY_LENGTH = 2_000
"""Characters of a statement's text."""

SCHEMA = "https://opentelemetry.io/schemas/1.44.0"

_READS = frozenset({"SELECT", "WITH", "VALUES", "SHOW", "EXPLAIN"})
_TABLE = re.compile(r"\b(?:FROM|INTO|UPDATE|JOIN)\s+([\w.\"`]{1,100})", re.IGNORECASE)
_NANOSECONDS = 1_000_000_000
# Not the one that `upshift.record.identity` counts by, or a statement would have a later request's id.
_STEP, _MASK = 0xBF58476D1CE4E5B9, (1 << 64) - 1
_SCOPE = InstrumentationScope("upshift", schema_url=SCHEMA)
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)

Attributes = dict[str, str | int | float | bool]


class SpanBuilder:
    """Makes spans of records.

    Args:
        resource: what the spans are of.
        digest_text: gives a statement's text without its values.
        database_system: the `db.system.name` of the statements.
    """

    def __init__(
        self, resource: Resource, digest_text: Callable[[str], str], database_system: str = "other_sql"
    ) -> None:
        self._resource = resource
        self._digest_text = digest_text
        self._database_system = database_system
        self.read_clock()

    def read_clock(self) -> None:
        """Read by how much the wall clock is ahead of the monotonic one, as somebody may have moved it.

        The spans of a request are dated by one reading, and their lengths come from the monotonic clock. So
        whatever is done to the wall clock, they lie in each other as they did.
        """
        self._ahead = time_ns() - perf_counter_ns()

    def build(self, record: Record) -> list[ReadableSpan]:
        """Return the spans of a request: its own, then those of its statements."""
        context = _context(record.trace_id, int(record.span_id, 16))
        parent = None
        if record.parent_span_id:
            parent = _context(record.trace_id, int(record.parent_span_id, 16), is_remote=True)
        method = record.method if record.method in METHODS else "HTTP"
        spans = [
            self._span(
                f"{method} {record.route}" if record.route else method,
                context,
                parent,
                SpanKind.SERVER,
                request_attributes(record),
                error_of(record),
                (record.started, record.seconds),
            )
        ]
        for number, statement in enumerate(record.statements[:MAX_STATEMENT_SPANS], 1):
            attributes = self._statement_attributes(statement)
            spans.append(
                self._span(
                    str(attributes["db.query.summary"]),
                    _context(record.trace_id, (context.span_id + number * _STEP) & _MASK or 1),
                    context,
                    SpanKind.CLIENT,
                    attributes,
                    statement.error or "",
                    (statement.started, statement.seconds),
                )
            )
        return spans

    def _span(  # noqa: PLR0913, PLR0917 - what a span consists of
        self,
        name: str,
        context: SpanContext,
        parent: SpanContext | None,
        kind: SpanKind,
        attributes: Attributes,
        error: str,
        time: tuple[float, float],
    ) -> ReadableSpan:
        started, seconds = time
        start = self._ahead + int(started * _NANOSECONDS)
        return ReadableSpan(
            name,
            context,
            parent,
            self._resource,
            attributes,
            kind=kind,
            status=Status(StatusCode.ERROR, error) if error else Status(StatusCode.UNSET),
            start_time=start,
            end_time=start + int(seconds * _NANOSECONDS),
            instrumentation_scope=_SCOPE,
        )

    def _statement_attributes(self, statement: Statement) -> Attributes:
        text = self._digest_text(statement.sql)
        operation = operation_of(text) or "SQL"
        table = _TABLE.search(text)
        attributes: Attributes = {
            "db.system.name": self._database_system,
            "db.operation.name": operation,
            "db.query.summary": f"{operation} {table[1]}" if table else operation,
            "db.query.text": _encodable(text[:MAX_QUERY_LENGTH]),
        }
        if statement.rows is not None:
            rows = "db.response.returned_rows" if operation in _READS else "upshift.db.changed_rows"
            attributes[rows] = statement.rows
        if statement.executions > 1:
            attributes["db.operation.batch.size"] = statement.executions
        if statement.error is not None:
            attributes["error.type"] = statement.error
        if statement.lazy_load is not None:
            attributes["upshift.lazy_load"] = statement.lazy_load.relationship
        if (site := statement.site) is not None:
            attributes["code.file.path"] = _encodable(site.file)
            attributes["code.line.number"] = site.line
            attributes["code.function.name"] = site.function
        return attributes


def error_of(record: Record) -> str:
    """What went wrong, as `error.type` has it: the exception, or else the status of a server error.

    That a client has gone is none.
    """
    return (record.error or str(record.status)) if record.is_failed else ""


def request_attributes(record: Record) -> Attributes:
    """The attributes of a request's span."""
    attributes: Attributes = {
        "http.request.method": known_method(record.method),
        "url.scheme": _encodable(record.scheme[:100]),
        "url.path": _encodable(record.path),
        "http.response.status_code": record.status,
        "http.request.body.size": record.request_bytes,
        "http.response.body.size": record.response_bytes,
    }
    if record.method not in METHODS:
        attributes["http.request.method_original"] = record.method[:100]
    if record.route:
        attributes["http.route"] = record.route
    if error := error_of(record):
        attributes["error.type"] = error
    if record.request_id != record.trace_id:
        attributes["upshift.request_id"] = record.request_id
    kept = len(record.statements)
    if statements := kept + record.statements_dropped:
        attributes["upshift.statements"] = statements
    if omitted := statements - min(kept, MAX_STATEMENT_SPANS):
        attributes["upshift.statements.omitted"] = omitted
    measured = {
        "upshift.cache.hits": record.cache_hits,
        "upshift.cache.seconds": record.cache_seconds,
        "upshift.queue.seconds": record.queue_seconds,
        "upshift.pool_wait.seconds": record.pool_wait_seconds,
        "upshift.first_byte.seconds": record.first_byte_seconds if record.is_streamed else 0.0,
    }
    attributes.update((name, value) for name, value in measured.items() if value)
    return attributes


def _encodable(text: str) -> str:
    """The text without lone surrogates, which file names and paths may have and protobuf refuses."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _context(trace_id: str, span_id: int, *, is_remote: bool = False) -> SpanContext:
    return SpanContext(int(trace_id, 16), span_id, is_remote, _SAMPLED)
