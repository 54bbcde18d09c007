"""What Upshift relies on in OpenTelemetry's SDK beyond its documentation.

`ReadableSpan` is made by the SDK and meant to be read; Upshift makes its own. Where a release changes these,
this tells before a collector does.
"""

import inspect
import logging
from importlib.metadata import entry_points

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.exporter.otlp.proto.http import trace_exporter
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanContext, SpanKind, TraceFlags
from opentelemetry.trace.status import Status as SdkStatus
from opentelemetry.trace.status import StatusCode

USED = [
    "name",
    "context",
    "parent",
    "resource",
    "attributes",
    "kind",
    "status",
    "start_time",
    "end_time",
    "instrumentation_scope",
]


def test_a_readable_span_takes_what_it_is_given():
    parameters = inspect.signature(ReadableSpan).parameters
    assert [name for name in USED if name not in parameters] == []
    assert list(parameters)[:5] == USED[:5]


def test_the_encoder_reads_such_a_span_with_a_plain_dict_of_attributes():
    context = SpanContext(1, 2, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))
    span = ReadableSpan(
        "GET /",
        context,
        SpanContext(1, 3, is_remote=True),
        Resource.get_empty(),
        {"a": 1, "b": "two", "c": 0.5},
        kind=SpanKind.SERVER,
        status=SdkStatus(StatusCode.ERROR, "ValueError"),
        start_time=10,
        end_time=20,
    )
    encoded: Span = encode_spans([span]).resource_spans[0].scope_spans[0].spans[0]
    assert (int.from_bytes(encoded.trace_id), int.from_bytes(encoded.span_id)) == (1, 2)
    assert int.from_bytes(encoded.parent_span_id) == 3
    assert (encoded.kind, encoded.name) == (Span.SPAN_KIND_SERVER, "GET /")
    assert (encoded.start_time_unix_nano, encoded.end_time_unix_nano) == (10, 20)
    assert (encoded.status.code, encoded.status.message) == (Status.STATUS_CODE_ERROR, "ValueError")
    assert {each.key for each in encoded.attributes} == {"a", "b", "c"}


def test_exporters_are_found_by_entry_points_and_log_by_their_modules_name():
    names = {each.name for each in entry_points(group="opentelemetry_traces_exporter")}
    assert {"console", "otlp_proto_http"} <= names
    assert trace_exporter._logger is logging.getLogger(trace_exporter.OTLPSpanExporter.__module__)
