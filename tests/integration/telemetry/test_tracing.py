"""Spans over OTLP/HTTP, as a real collector gets them: a server on loopback that reads the protocol."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextvars import ContextVar
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
from fastapi import FastAPI
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from opentelemetry.trace.span import format_span_id, format_trace_id
from sqlalchemy import create_engine, text
from sqlalchemy.pool import StaticPool

from upshift.record import Record, Recorder
from upshift.record.identity import Ids
from upshift.settings import TracingSettings
from upshift.sql.analysis.digest import normalise
from upshift.sql.capture.capture import Capture
from upshift.telemetry.tracing.export import SpanExport

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class Collector:
    """Takes spans as an OpenTelemetry collector does, unless `status` or `gate` say otherwise."""

    def __init__(self) -> None:
        self.requests: list[tuple[dict[str, str], ExportTraceServiceRequest]] = []
        self.attempts = 0
        self.status = 200
        self.gate = threading.Event()
        self.gate.set()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                collector.attempts += 1
                collector.gate.wait(300)
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                if collector.status == 200:
                    collector.requests.append(
                        (
                            {name.lower(): value for name, value in self.headers.items()},
                            ExportTraceServiceRequest.FromString(body),
                        )
                    )
                self.send_response(collector.status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *arguments):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def spans(self) -> list[Span]:
        return [
            span
            for _, request in list(self.requests)
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def resource(self) -> dict[str, str]:
        return attributes_of(self.requests[0][1].resource_spans[0].resource)

    def close(self) -> None:
        self.gate.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def attributes_of(owner) -> dict[str, object]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in owner.attributes}


def wait_until(condition) -> None:
    for _ in range(2_000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it did not happen within 20 seconds")


@pytest.fixture
def collector(monkeypatch) -> Iterator[Collector]:
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)
    collector = Collector()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    yield collector
    collector.close()


def tracing(rate=1.0, slow=1.0, **options) -> SpanExport:
    return SpanExport(
        TracingSettings(tracing=True, trace_sample_rate=rate),
        service="shop",
        slow_request_seconds=slow,
        digest_text=normalise,
        **options,
    )


def closed_record(status=200, seconds=0.01, **headers) -> Record:
    record = Record("GET", "/orders/7", time.perf_counter())
    Ids().identify(
        record, {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}
    )
    record.route, record.status, record.seconds = "/orders/{order_id}", status, seconds
    return record


@pytest.fixture
def export(collector) -> Iterator[SpanExport]:
    export = tracing()
    yield export
    export.close(10.0)


class TestSpansOfARealApplication:
    @pytest.fixture
    async def spans(self, collector):
        current: ContextVar[Record | None] = ContextVar("current", default=None)
        engine = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
        app = FastAPI()

        @app.get("/orders/{order_id}")
        def order(order_id: int):
            with engine.connect() as connection:
                connection.execute(text("CREATE TABLE IF NOT EXISTS orders (id integer, buyer text)"))
                return connection.execute(text("SELECT * FROM orders WHERE buyer = 'Mei Ling'")).all()

        @app.get("/broken")
        def broken():
            with engine.connect() as connection:
                connection.execute(text("SELECT * FROM nothing_there"))

        export = tracing(database_system="sqlite")
        capture = Capture([engine], current)
        recorder = Recorder(app, export.take, current)
        transport = httpx.ASGITransport(recorder, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://shop") as client:
            headers = {"traceparent": f"00-{TRACE}-{SPAN}-01"}
            assert (await client.get("/orders/7?card=4111", headers=headers)).status_code == 200
            assert (await client.get("/broken", headers=headers)).status_code == 500
        export.close(10.0)
        capture.close()
        engine.dispose()
        assert (export.dropped, export.faults) == (0, 0)
        return collector.spans()

    async def test_the_request_is_a_server_span_below_the_callers(self, spans):
        span = spans[0]
        assert (span.name, span.kind) == ("GET /orders/{order_id}", Span.SPAN_KIND_SERVER)
        assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, SPAN)
        assert span.status.code == Status.STATUS_CODE_UNSET
        attributes = attributes_of(span)
        assert attributes["http.request.method"] == "GET"
        assert attributes["http.route"] == "/orders/{order_id}"
        assert attributes["url.path"] == "/orders/7"
        assert attributes["http.response.status_code"] == 200
        assert attributes["http.response.body.size"] == 2
        assert attributes["upshift.statements"] == 2

    async def test_each_statement_is_a_client_span_below_the_request(self, spans):
        request, _, statement = spans[:3]
        assert (statement.name, statement.kind) == ("SELECT orders", Span.SPAN_KIND_CLIENT)
        assert statement.parent_span_id == request.span_id
        assert statement.trace_id == request.trace_id
        attributes = attributes_of(statement)
        assert attributes["db.system.name"] == "sqlite"
        assert attributes["db.operation.name"] == "SELECT"
        assert attributes["db.query.text"] == "SELECT * FROM orders WHERE buyer = ?"
        assert attributes["db.response.returned_rows"] == 0
        assert attributes["code.file.path"] == __file__
        assert attributes["code.function.name"].endswith("order")
        assert attributes["code.line.number"] > 0

    async def test_no_value_of_a_statement_and_no_query_string_leaves(self, collector, spans):
        for _, request in collector.requests:
            assert b"Mei Ling" not in request.SerializeToString()
            assert b"4111" not in request.SerializeToString()

    async def test_statements_lie_within_their_request_and_that_within_the_test(self, spans):
        request, *statements = spans[:3]
        now = time.time_ns()
        assert now - 60_000_000_000 < request.start_time_unix_nano < request.end_time_unix_nano < now
        for statement in statements:
            assert request.start_time_unix_nano <= statement.start_time_unix_nano
            assert statement.end_time_unix_nano <= request.end_time_unix_nano

    async def test_an_exception_is_an_error_of_the_request_and_of_its_statement(self, spans):
        request, statement = spans[3:]
        assert request.status.code == statement.status.code == Status.STATUS_CODE_ERROR
        assert attributes_of(request)["error.type"] == attributes_of(statement)["error.type"]
        assert attributes_of(statement)["error.type"] == "OperationalError"
        assert attributes_of(request)["http.response.status_code"] == 500


class TestVariables:
    def test_headers_resource_and_compression_are_opentelemetrys(self, collector, monkeypatch):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=acme")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
        monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=staging")
        export = tracing()
        export.take(closed_record())
        export.close(10.0)
        headers, _ = collector.requests[0]
        assert headers["x-tenant"] == "acme"
        assert headers["content-encoding"] == "gzip"
        assert collector.resource()["deployment.environment.name"] == "staging"
        assert collector.resource()["service.name"] == "shop"

    def test_the_service_name_of_opentelemetry_goes_before_ours(self, collector, monkeypatch):
        monkeypatch.setenv("OTEL_SERVICE_NAME", "checkout")
        export = tracing()
        export.take(closed_record())
        export.close(10.0)
        assert collector.resource()["service.name"] == "checkout"

    def test_the_batch_is_as_large_as_asked(self, collector, monkeypatch):
        monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "3")
        export = tracing()
        for _ in range(7):
            export.take(closed_record())
        export.close(10.0)
        assert [len(request.resource_spans[0].scope_spans[0].spans) for _, request in collector.requests] == [
            3, 3, 1,
        ]  # fmt: skip

    def test_spans_leave_when_the_delay_is_over(self, collector, monkeypatch):
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "10")
        export = tracing()
        export.take(closed_record())
        wait_until(collector.spans)
        export.close(10.0)


class TestFaults:
    def test_a_collector_that_hangs_makes_nobody_wait(self, collector, monkeypatch):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "300")
        collector.gate.clear()
        export = tracing()
        for _ in range(600):
            export.take(closed_record())
        wait_until(lambda: collector.attempts)
        started = time.monotonic()
        for _ in range(10_000):
            export.take(closed_record())
        assert export.dropped > 0
        export.close(0.1)
        assert time.monotonic() - started < 60  # the exporter waits for 300
        assert export.dropped >= 10_600 - 512  # all but the batch that is under way

    def test_a_collector_that_is_down_is_logged_once(self, monkeypatch, caplog):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
        monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "1")
        export = tracing()
        for _ in range(3):
            export.take(closed_record())
        export.close(20.0)
        assert (export.faults, export.dropped) == (3, 3)
        assert [(record.name, record.levelname) for record in caplog.records] == [
            ("upshift.telemetry", "WARNING")
        ]

    def test_a_collector_that_refuses_is_logged_once_and_asked_again(self, collector, monkeypatch, caplog):
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "10")
        collector.status = 401
        export = tracing()
        export.take(closed_record())
        wait_until(lambda: export.faults == 1)
        export.take(closed_record())
        wait_until(lambda: export.faults == 2)
        collector.status = 200
        export.take(closed_record())
        wait_until(collector.spans)
        export.close(10.0)
        assert export.dropped == 2
        assert len(caplog.records) == 1

    def test_the_applications_own_use_of_the_exporter_logs_on(self, collector, monkeypatch, caplog):
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        collector.gate.clear()
        export = tracing()
        export.take(closed_record())
        closing = threading.Thread(target=export.close, args=(20.0,))
        closing.start()
        wait_until(lambda: collector.attempts)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
        OTLPSpanExporter(timeout=0.1).export([])
        assert "opentelemetry.exporter.otlp.proto.http.trace_exporter" in {
            each.name for each in caplog.records
        }
        collector.gate.set()
        closing.join()


FORK = """
import os, sys, time
from upshift.record import Record
from upshift.record.identity import Ids
from upshift.settings import TracingSettings
from upshift.telemetry.tracing.export import SpanExport

ids = Ids()
export = SpanExport(
    TracingSettings(trace_sample_rate=1.0), service="shop", slow_request_seconds=1.0, digest_text=str
)

def take(path):
    record = Record("GET", path, time.perf_counter())
    ids.identify(record, {})
    record.status, record.seconds = 200, 0.01
    export.take(record)

if sys.argv[1] == "used":
    take("/before")  # the thread and, soon, a connection to the collector exist
pid = os.fork()
take("/child" if pid == 0 else "/parent")
export.close(20.0)
if pid:
    os.waitpid(pid, 0)
    sys.exit(export.faults + export.dropped)
os._exit(export.faults + export.dropped)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize(
    ("use", "expected"), [("fresh", ["/child", "/parent"]), ("used", ["/before", "/child", "/parent"])]
)
def test_parent_and_forked_child_each_export_their_own_once(collector, use, expected):
    # Python 3.12 warns of every fork of a process with threads, which "used" is on purpose.
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORK, use]
    subprocess.run(command, check=True, timeout=60)
    assert sorted(attributes_of(span)["url.path"] for span in collector.spans()) == expected


def test_a_killed_process_harms_nobody(collector):
    code = FORK.partition("if sys.argv")[0] + "take('/lost'); os.kill(os.getpid(), 9)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == -9
    assert collector.spans() == []


def test_ids_are_those_of_the_record(collector):
    export = tracing()
    record = closed_record(x_request_id="checkout-7")
    export.take(record)
    export.close(10.0)
    (span,) = collector.spans()
    assert format_trace_id(int.from_bytes(span.trace_id)) == record.trace_id
    assert format_span_id(int.from_bytes(span.span_id)) == record.span_id
    assert span.parent_span_id == b""
    assert attributes_of(span)["upshift.request_id"] == "checkout-7"
