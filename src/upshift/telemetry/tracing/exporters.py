"""Where spans go to, by OpenTelemetry's own variables, as its SDK finds it.

`OTEL_TRACES_EXPORTER` names the exporter: `otlp` (the default), `console`, or any that is installed under
that name; `OTEL_EXPORTER_OTLP_PROTOCOL` chooses between the two of OTLP. Endpoint, headers, timeout,
compression and certificates are read by the exporter itself.

Source: https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/.
"""

from __future__ import annotations

import logging
import threading
from importlib.metadata import entry_points
from os import environ
from typing import TYPE_CHECKING, Self

from opentelemetry.sdk.environment_variables import (
    OTEL_EXPORTER_OTLP_PROTOCOL,
    OTEL_EXPORTER_OTLP_TRACES_PROTOCOL,
    OTEL_SDK_DISABLED,
)
from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource

from upshift.errors import MissingExtraError, SettingsError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

OTEL_TRACES_EXPORTER = "OTEL_TRACES_EXPORTER"  # the SDK has no name for it

_GROUP = "opentelemetry_traces_exporter"
_OTLP = {"http/protobuf": "otlp_proto_http", "grpc": "otlp_proto_grpc"}


def is_disabled() -> bool:
    """Whether OpenTelemetry's variables turn tracing off."""
    return (
        environ.get(OTEL_SDK_DISABLED, "").strip().lower() == "true"
        or environ.get(OTEL_TRACES_EXPORTER, "").strip() == "none"
    )


def find_exporter() -> SpanExporter:
    """Make the exporter that the variables ask for.

    Raises:
        MissingExtraError: the package of OTLP over HTTP is not installed.
        SettingsError: a variable names an exporter or a protocol that is not installed.
    """
    name = environ.get(OTEL_TRACES_EXPORTER, "").strip() or "otlp"
    asked = f"{OTEL_TRACES_EXPORTER} is {name!r}"
    if name == "otlp":
        variable = OTEL_EXPORTER_OTLP_TRACES_PROTOCOL
        if not environ.get(variable):
            variable = OTEL_EXPORTER_OTLP_PROTOCOL
        protocol = environ.get(variable, "").strip() or "http/protobuf"
        asked = f"{variable} is {protocol!r}"
        name = _OTLP.get(protocol, protocol)
    found = next(iter(entry_points(group=_GROUP, name=name)), None)
    if found is not None:
        exporter: SpanExporter = found.load()()
        return exporter
    if name == _OTLP["http/protobuf"]:
        raise MissingExtraError("tracing", "otel")
    installed = ", ".join(sorted({each.name for each in entry_points(group=_GROUP)}))
    raise SettingsError(f"{asked}, whose exporter is not installed; installed are {installed}")


def resource_of(service: str) -> Resource:
    """What the spans are of, as `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` tell.

    Args:
        service: the service's name where they tell none.
    """
    told = OTELResourceDetector().detect().attributes
    return _HashedResource(Resource.create({} if SERVICE_NAME in told else {SERVICE_NAME: service}))


class _HashedResource(Resource):
    """A resource that is hashed once: exporters do so for each span, and each time it is written as JSON."""

    def __init__(self, resource: Resource) -> None:
        super().__init__(resource.attributes or {}, resource.schema_url)
        self._hash = super().__hash__()

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return super().__eq__(other)


MAX_SAID = 500
"""Characters kept of what an exporter says."""


class Silence(logging.Filter):
    """Keeps what an exporter logs in one thread to itself: it would log every batch that fails.

    The application's own use of the same exporter, in other threads, goes on as before.

    Args:
        exporter: whose loggers, those named as the modules of its classes, are silenced.

    Attributes:
        said: the first line that was kept; "" where there was none.
    """

    def __init__(self, exporter: SpanExporter) -> None:
        super().__init__()
        self.said = ""
        self._thread = threading.get_ident()
        self._loggers = [
            logging.getLogger(name) for name in {kind.__module__ for kind in type(exporter).__mro__}
        ]

    def filter(self, record: logging.LogRecord) -> bool:
        """Refuse the lines of the thread."""
        if record.thread != self._thread:
            return True
        self.said = self.said or record.getMessage()[:MAX_SAID]
        return False

    def __enter__(self) -> Self:
        for logger in self._loggers:
            logger.addFilter(self)
        return self

    def __exit__(self, *_: object) -> None:
        for logger in self._loggers:
            logger.removeFilter(self)
