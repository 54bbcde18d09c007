"""Tracing: spans made of closed records, and sent through OpenTelemetry's SDK.

Nothing is done while a request runs. When its record is closed it is known whether the request failed or was
slow, and such a request is always traced, whatever the dice said. A thread makes the spans and sends them.

OpenTelemetry's `BatchSpanProcessor` is not used, though it would do most of this: its thread starts on import
and shares the exporter's connections with forked children, it does not tell what it dropped, its shutdown
takes as long as the exporter does, and spans would have to be made in the event loop's thread. Its variables
(`OTEL_BSP_*`) are honoured.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from upshift.errors import MissingExtraError, SettingsError
from upshift.record.model import SERVER_ERROR
from upshift.telemetry.tracing.outbox import Outbox
from upshift.telemetry.tracing.sampling import HeadSampling

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.sdk.trace.export import SpanExporter

    from upshift.record import Record
    from upshift.settings import TracingSettings

QUEUE_SIZE = 2_048
"""Requests and statements that wait at most, unless `OTEL_BSP_MAX_QUEUE_SIZE` says otherwise."""

BATCH_SIZE = 512
"""Those that are sent together at most, unless `OTEL_BSP_MAX_EXPORT_BATCH_SIZE` says otherwise."""

DELAY_MILLISECONDS = 5_000
"""How long they wait for others, unless `OTEL_BSP_SCHEDULE_DELAY` says otherwise."""


class SpanExport:
    """Exports the spans of closed records.

    Args:
        settings: the share of requests that is traced by chance.
        service: the service's name, unless `OTEL_SERVICE_NAME` tells it.
        slow_request_seconds: from where on a request is slow, and always traced.
        digest_text: gives a statement's text without its values; called from another thread.
        database_system: the `db.system.name` of the statements, such as `postgresql`.
        exporter: where spans go to; found by the `OTEL_*` variables where not given. Used by one thread.

    Raises:
        MissingExtraError: OpenTelemetry's SDK or its OTLP exporter is not installed.
        SettingsError: an `OTEL_*` variable has a value that cannot be used.

    Example:
        >>> from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
        >>> from upshift.record import Record
        >>> from upshift.record.identity import Ids
        >>> from upshift.settings import TracingSettings
        >>> exporter = InMemorySpanExporter()
        >>> export = SpanExport(
        ...     TracingSettings(trace_sample_rate=1.0),
        ...     service="shop",
        ...     slow_request_seconds=1.0,
        ...     digest_text=str,
        ...     exporter=exporter,
        ... )
        >>> record = Record("GET", "/orders/7", 0.0)
        >>> Ids().identify(record, {})
        >>> record.route, record.status, record.seconds = "/orders/{order_id}", 200, 0.012
        >>> export.take(record)
        >>> export.close(deadline_seconds=10.0)
        >>> [span.name for span in exporter.get_finished_spans()]
        ['GET /orders/{order_id}']
    """

    def __init__(  # noqa: PLR0913 - all by name, and each a thing of its own
        self,
        settings: TracingSettings,
        *,
        service: str,
        slow_request_seconds: float,
        digest_text: Callable[[str], str],
        database_system: str = "other_sql",
        exporter: SpanExporter | None = None,
    ) -> None:
        try:
            from upshift.telemetry.tracing.delivery import SpanDelivery
            from upshift.telemetry.tracing.exporters import is_disabled, resource_of
            from upshift.telemetry.tracing.spans import SpanBuilder
        except ModuleNotFoundError as error:
            raise MissingExtraError("tracing", "otel") from error
        self._slow = slow_request_seconds
        self._is_sampled = HeadSampling(settings.trace_sample_rate)
        self._is_disabled = is_disabled()
        builder = SpanBuilder(resource_of(service), digest_text, database_system)
        self._delivery = SpanDelivery(builder, exporter)
        if not self._is_disabled:
            self._delivery.exporter()  # so that one that cannot be had is told of now
        size = _number("OTEL_BSP_MAX_QUEUE_SIZE", QUEUE_SIZE)
        self._outbox: Outbox[Record] = Outbox(
            self._delivery.deliver,
            self._delivery.finish,
            size=size,
            batch=min(_number("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", BATCH_SIZE), size),
            seconds=_number("OTEL_BSP_SCHEDULE_DELAY", DELAY_MILLISECONDS) / 1_000,
        )

    @property
    def dropped(self) -> int:
        """Requests and statements that no span tells of.

        The queue was full, the exporter refused them, or there was no time for them at the end.
        """
        return self._outbox.dropped + self._delivery.undelivered

    @property
    def faults(self) -> int:
        """Batches that were not delivered, and records that no spans could be made of."""
        return self._delivery.faults

    def is_traced(self, record: Record) -> bool:
        """Tell whether a closed record is exported: it was sampled, or it failed, or it was slow."""
        return (
            ((record.error is not None or record.status >= SERVER_ERROR) and record.is_failed)
            or (record.seconds >= self._slow and record.answer_seconds >= self._slow)
            or self._is_sampled(record)
        ) and not self._is_disabled

    def take(self, record: Record) -> None:
        """Export a closed record if it is traced; it waits for the thread that does so, and this does not."""
        if self.is_traced(record):
            self._outbox.put(record, 1 + len(record.statements))

    def flush(self, deadline_seconds: float) -> bool:
        """Export what waits; False where that takes longer than the deadline."""
        return self._outbox.flush(deadline_seconds)

    def close(self, deadline_seconds: float) -> None:
        """Export what waits and end the exporter, but return by the deadline. Twice does nothing more."""
        self._outbox.close(deadline_seconds)


def _number(variable: str, default: int) -> int:
    text = os.environ.get(variable, "").strip()
    if not text:
        return default
    if not text.isdecimal() or not int(text):
        raise SettingsError(f"{variable} is {text!r}; it must be a whole number from 1 up")
    return int(text)
