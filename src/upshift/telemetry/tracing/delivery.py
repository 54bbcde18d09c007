"""Delivers closed records as spans, to an exporter that may refuse them, fail or hang."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY, attach, detach, set_value
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from upshift.telemetry.tracing.exporters import Silence, find_exporter

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

    from upshift.record import Record
    from upshift.telemetry.tracing.spans import SpanBuilder

logger = logging.getLogger("upshift.telemetry")


class SpanDelivery:
    """Makes spans of records and hands them to an exporter; all in one thread.

    A fault is logged once and counted. What the exporter would log of each batch that fails is not logged.

    Args:
        builder: makes the spans.
        exporter: where they go to; found by the `OTEL_*` variables where not given. A forked child finds its
            own, for the connections of the one before the fork are its parent's.

    Attributes:
        undelivered: spans that were not delivered.
        faults: batches that were not delivered, and records that no spans could be made of.
    """

    def __init__(self, builder: SpanBuilder, exporter: SpanExporter | None = None) -> None:
        self.undelivered = 0
        self.faults = 0
        self._builder = builder
        self._given = exporter
        self._found: SpanExporter | None = None
        self._process = os.getpid()

    def exporter(self) -> SpanExporter:
        """Return the exporter of this process.

        Raises:
            MissingExtraError: see `find_exporter`.
            SettingsError: likewise.
        """
        if self._given is not None:
            return self._given
        if self._found is None or self._process != os.getpid():
            self._found = find_exporter()
            self._process = os.getpid()
        return self._found

    def deliver(self, records: list[Record]) -> None:
        """Make spans of the records, and export them."""
        self._builder.read_clock()
        spans: list[ReadableSpan] = []
        for record in records:
            try:
                spans.extend(self._builder.build(record))
            except Exception as fault:  # noqa: BLE001 - whatever it is, the others are delivered
                self._count(1, fault)
        token = attach(set_value(_SUPPRESS_INSTRUMENTATION_KEY, True))  # its calls need no spans themselves
        try:
            exporter = self.exporter()
            with Silence(exporter) as silence:
                result = exporter.export(spans)
        except Exception as fault:  # noqa: BLE001 - an exporter may fail in any way
            self._count(len(spans), fault)
        else:
            if result is not SpanExportResult.SUCCESS:
                self._count(len(spans), None, silence.said)
        finally:
            detach(token)

    def finish(self) -> None:
        """Shut the exporter down."""
        try:
            exporter = self.exporter()
            with Silence(exporter):
                exporter.shutdown()
        except Exception as fault:  # noqa: BLE001 - likewise
            self._count(0, fault)

    def _count(self, spans: int, fault: Exception | None, said: str = "") -> None:
        self.undelivered += spans
        self.faults += 1
        if self.faults == 1:
            logger.warning(
                "%d spans could not be exported; later ones are only counted, and requests go on%s",
                spans,
                f": {said}" if said else "",
                exc_info=fault,
            )
