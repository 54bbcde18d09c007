"""Which closed records are exported, and what happens when they cannot be."""

import asyncio
import re
import sys
from contextvars import ContextVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY, get_value
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from upshift.record import Backlog, Record, Recorder, Statement
from upshift.record.identity import Ids, parse_traceparent
from upshift.settings import TracingSettings
from upshift.telemetry.tracing.export import SpanExport

PARENT = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-"


def export_to(exporter, rate=0.0):
    return SpanExport(
        TracingSettings(tracing=True, trace_sample_rate=rate),
        service="shop",
        slow_request_seconds=1.0,
        digest_text=str,
        exporter=exporter,
    )


def closed_record(*, status=200, seconds=0.01, error=None, flags=None, statements=0) -> Record:
    record = Record("GET", "/", 0.0)
    Ids().identify(record, {} if flags is None else {b"traceparent": PARENT + flags})
    record.status, record.seconds, record.error = status, seconds, error
    for _ in range(statements):
        record.add(Statement("SELECT 1", 0.0))
    return record


@pytest.fixture
def exporter():
    return InMemorySpanExporter()


class TestWhatIsTraced:
    @pytest.mark.parametrize(
        ("outlier", "rate", "flags", "is_traced"),
        [
            ({}, 0.0, None, False),
            ({}, 1.0, None, True),
            ({}, 0.0, b"01", True),
            ({}, 1.0, b"00", False),
            ({"status": 500}, 0.0, None, True),
            ({"status": 503}, 0.0, b"00", True),
            ({"status": 404}, 0.0, None, False),
            ({"seconds": 1.1}, 0.0, b"00", True),
            ({"seconds": 1.0}, 0.0, None, True),
            ({"seconds": 0.9}, 0.0, None, False),
            ({"error": "KeyError"}, 0.0, b"00", True),
            ({"error": "IncompleteResponse"}, 0.0, b"00", False),  # the client has gone
        ],
    )
    def test_what_was_sampled_and_always_what_failed_or_was_slow(
        self, exporter, outlier, rate, flags, is_traced
    ):
        export = export_to(exporter, rate)
        record = closed_record(flags=flags, **outlier)
        assert export.is_traced(record) is is_traced
        export.take(record)
        export.close(10.0)
        assert len(exporter.get_finished_spans()) == is_traced

    def test_the_exporters_own_calls_are_not_traced_by_instrumentors_of_the_application(self):
        seen = []

        class Looking(InMemorySpanExporter):
            def export(self, spans):
                seen.append(get_value(_SUPPRESS_INSTRUMENTATION_KEY))
                return super().export(spans)

        export = export_to(Looking(), rate=1.0)
        export.take(closed_record())
        export.close(10.0)
        assert seen == [True]
        assert get_value(_SUPPRESS_INSTRUMENTATION_KEY) is None

    def test_it_takes_records_from_the_backlog(self, exporter):
        export = export_to(exporter, rate=1.0)
        backlog = Backlog([export.take])
        for _ in range(100):
            backlog.add(closed_record(statements=2))
        backlog.drain()
        export.close(10.0)
        assert len(exporter.get_finished_spans()) == 300


class Failing(SpanExporter):
    def __init__(self, outcome):
        self.outcome = outcome
        self.calls = 0

    def export(self, spans):
        self.calls += 1
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome

    def shutdown(self):
        raise RuntimeError("it does not even end")


class TestFaults:
    @pytest.mark.parametrize("outcome", [RuntimeError("no"), SpanExportResult.FAILURE, None])
    def test_an_exporter_that_fails_is_logged_once_and_counted(self, outcome, monkeypatch, caplog):
        monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "3")
        exporter = Failing(outcome)
        export = export_to(exporter, rate=1.0)
        for _ in range(3):
            export.take(closed_record(statements=2))
        export.close(10.0)
        assert exporter.calls == 3
        assert export.dropped == 9
        assert export.faults == 4  # and its shutdown
        assert len(caplog.records) == 1

    def test_a_record_that_no_span_can_be_made_of_does_not_keep_others(self, exporter, caplog):
        export = export_to(exporter, rate=1.0)
        broken = closed_record()
        broken.span_id = "no hex"
        for record in (closed_record(), broken, closed_record()):
            export.take(record)
        export.close(10.0)
        assert len(exporter.get_finished_spans()) == 2
        assert (export.faults, export.dropped) == (1, 1)
        assert len(caplog.records) == 1

    def test_closing_twice_and_taking_afterwards_do_no_harm(self, exporter):
        export = export_to(exporter, rate=1.0)
        export.close(1.0)
        export.close(1.0)
        export.take(closed_record(statements=2))
        assert (export.dropped, exporter.get_finished_spans()) == (3, ())


def test_two_exports_in_one_process_keep_apart():
    one, other = InMemorySpanExporter(), InMemorySpanExporter()
    exports = [export_to(one, rate=1.0), export_to(other, rate=1.0)]
    for export in exports:
        export.take(closed_record())
        export.close(10.0)
    assert len(one.get_finished_spans()) == len(other.get_finished_spans()) == 1


@given(
    st.one_of(
        st.binary(max_size=100),
        st.from_regex(rb"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-.*)?", fullmatch=True),
        st.just(PARENT + b"01" + b"-" * 1_000_000),
    ),
    st.binary(max_size=200),
    st.text(max_size=20),
)
def test_no_header_and_no_path_keeps_a_request_or_its_spans(traceparent, request_id, path):
    """From the request's bytes to those that go to a collector."""
    exporter = InMemorySpanExporter()
    export = export_to(exporter, rate=1.0)
    headers = [(b"traceparent", traceparent), (b"x-request-id", request_id)]
    scope = {"type": "http", "method": "GET", "path": "/" + path, "headers": headers}
    sent = []

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 500, "headers": []})
        await send({"type": "http.response.body"})

    async def send(message):
        sent.append(message)

    recorder = Recorder(app, export.take, ContextVar("current", default=None))
    asyncio.run(recorder(scope, None, send))
    export.close(10.0)
    (span,) = exporter.get_finished_spans()
    encoded = encode_spans([span]).resource_spans[0].scope_spans[0].spans[0]
    trace = parse_traceparent(traceparent)
    assert (encoded.parent_span_id.hex(), trace and encoded.trace_id.hex()) == (
        (trace.parent_span_id, trace.trace_id) if trace else ("", None)
    )
    assert re.fullmatch(rb"[A-Za-z0-9._~:@+=/-]{1,128}", dict(sent[0]["headers"])[b"x-request-id"])
    assert (export.faults, export.dropped, recorder.faults) == (0, 0, 0)


def test_a_record_that_is_not_traced_costs_five_calls(exporter):
    """Counted, not timed: `take`, `is_traced`, the sampling, and within it `encode` and `crc32`."""
    export = export_to(exporter)
    record = closed_record()
    calls = []
    sys.setprofile(lambda frame, event, argument: calls.append(event))
    export.take(record)
    sys.setprofile(None)
    assert (calls.count("call"), calls.count("c_call")) == (3, 3)  # with `setprofile` itself


def test_no_two_spans_of_a_trace_share_an_id_however_many_requests_a_process_has_of_it(exporter):
    export, ids = export_to(exporter, rate=1.0), Ids()
    for _ in range(50):
        record = closed_record(flags=b"01", statements=20)
        ids.identify(record, {b"traceparent": PARENT + b"01"})
        export.take(record)
    export.close(20.0)
    spans = [span.context.span_id for span in exporter.get_finished_spans()]
    assert len(spans) == len(set(spans)) == 50 * 21


def test_what_was_flushed_is_exported_and_tracing_goes_on(exporter):
    export = export_to(exporter, rate=1.0)
    for number in range(1, 3):
        export.take(closed_record())
        assert export.flush(20.0)
        assert len(exporter.get_finished_spans()) == number
    export.close(20.0)
