"""What spans say of a record."""

import time

import pytest
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.trace import SpanKind
from opentelemetry.trace.status import StatusCode

from upshift.record import CallSite, LazyLoad, Record, Statement
from upshift.record.identity import Ids
from upshift.sql.analysis.digest import normalise
from upshift.telemetry.tracing import spans
from upshift.telemetry.tracing.spans import MAX_STATEMENT_SPANS, SpanBuilder

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.fixture
def builder():
    return SpanBuilder(Resource.get_empty(), normalise, "postgresql")


@pytest.fixture
def record():
    record = Record("GET", "/orders/7", time.perf_counter())
    Ids().identify(record, {b"traceparent": f"00-{TRACE}-{SPAN}-01".encode()})
    record.route, record.status, record.seconds = "/orders/{order_id}", 200, 0.25
    return record


def add(record, sql="SELECT 1", **attributes) -> Statement:
    statement = Statement(sql, record.started + 0.01)
    for name, value in attributes.items():
        setattr(statement, name, value)
    record.add(statement)
    return statement


class TestRequest:
    def test_ids_are_the_records(self, builder, record):
        (span,) = builder.build(record)
        assert span.context.trace_id == int(TRACE, 16)
        assert span.context.span_id == int(record.span_id, 16)
        assert (span.parent.span_id, span.parent.is_remote) == (int(SPAN, 16), True)
        assert (span.kind, span.status.status_code) == (SpanKind.SERVER, StatusCode.UNSET)

    def test_one_that_starts_the_trace_has_no_parent(self, builder, record):
        record.parent_span_id = ""
        assert builder.build(record)[0].parent is None

    @pytest.mark.parametrize(
        ("method", "route", "name"),
        [
            ("GET", "/orders/{order_id}", "GET /orders/{order_id}"),
            ("GET", None, "GET"),
            ("BREW", None, "HTTP"),
            ("BREW", "/pot", "HTTP /pot"),
        ],
    )
    def test_its_name_is_method_and_route_and_never_a_path(self, builder, record, method, route, name):
        record.method, record.route = method, route
        assert builder.build(record)[0].name == name

    def test_an_unknown_method_is_other_and_short(self, builder, record):
        record.method = "X" * 1_000
        attributes = builder.build(record)[0].attributes
        assert attributes["http.request.method"] == "_OTHER"
        assert attributes["http.request.method_original"] == "X" * 100

    @pytest.mark.parametrize(
        ("status", "error", "told"),
        [
            (200, None, ""),
            (404, None, ""),
            (503, None, "503"),
            (500, "ValueError", "ValueError"),
            (200, "ValueError", "ValueError"),
            (500, "IncompleteResponse", "IncompleteResponse"),
            (200, "IncompleteResponse", ""),
            (200, "ClientDisconnect", ""),
            (200, "CancelledError", ""),
        ],
    )
    def test_failures_are_errors_and_a_client_that_has_gone_is_none(
        self, builder, record, status, error, told
    ):
        record.status, record.error = status, error
        (span,) = builder.build(record)
        assert (span.status.status_code is StatusCode.ERROR) == bool(told)
        assert span.attributes.get("error.type", "") == told

    def test_waits_and_caches_are_told_where_there_were_some(self, builder, record):
        told = set(builder.build(record)[0].attributes)
        record.cache_hits, record.cache_seconds = 2, 0.001
        record.queue_seconds, record.pool_wait_seconds = 0.002, 0.003
        record.is_streamed, record.first_byte_seconds = True, 0.004
        assert set(builder.build(record)[0].attributes) - told == {
            "upshift.cache.hits",
            "upshift.cache.seconds",
            "upshift.queue.seconds",
            "upshift.pool_wait.seconds",
            "upshift.first_byte.seconds",
        }

    @pytest.mark.parametrize(("scheme", "told"), [("https", "https"), ("x" * 1_000, "x" * 100)])
    def test_the_scheme_is_told_and_short(self, builder, record, scheme, told):
        record.scheme = scheme
        assert builder.build(record)[0].attributes["url.scheme"] == told

    def test_a_request_id_of_its_own_is_told(self, builder, record):
        assert "upshift.request_id" not in builder.build(record)[0].attributes
        record.request_id = "checkout-7"
        assert builder.build(record)[0].attributes["upshift.request_id"] == "checkout-7"


class TestStatement:
    @pytest.mark.parametrize(
        ("sql", "name", "operation"),
        [
            ("SELECT a FROM orders WHERE id = 7", "SELECT orders", "SELECT"),
            ("/* hi */ insert into shop.orders (id) values (7)", "INSERT shop.orders", "INSERT"),
            ('UPDATE "order" SET a = 1', 'UPDATE "order"', "UPDATE"),
            ("DELETE FROM `order`", "DELETE `order`", "DELETE"),
            ("WITH x AS (SELECT 1) SELECT * FROM x", "WITH x", "WITH"),
            ("COMMIT", "COMMIT", "COMMIT"),
            ("(SELECT 1)", "SELECT", "SELECT"),
            ("?", "SQL", "SQL"),
            ("", "SQL", "SQL"),
        ],
    )
    def test_its_name_is_operation_and_table(self, builder, record, sql, name, operation):
        add(record, sql)
        span = builder.build(record)[1]
        assert (span.name, span.attributes["db.operation.name"]) == (name, operation)

    def test_no_literal_is_told(self, builder, record):
        add(record, "SELECT * FROM users WHERE email = 'mei@example.com' AND pin = 4711")
        attributes = builder.build(record)[1].attributes
        assert attributes["db.query.text"] == "SELECT * FROM users WHERE email = ? AND pin = ?"
        assert "4711" not in str(attributes)

    def test_it_tells_of_rows_call_site_batch_and_lazy_load(self, builder, record):
        add(
            record,
            rows=3,
            executions=5,
            site=CallSite("shop/orders.py", 42, "list_orders"),
            lazy_load=LazyLoad("Order.customer", "Customer", 1),
        )
        attributes = builder.build(record)[1].attributes
        assert attributes["db.system.name"] == "postgresql"
        assert attributes["db.response.returned_rows"] == 3
        assert attributes["db.operation.batch.size"] == 5
        assert attributes["upshift.lazy_load"] == "Order.customer"
        assert attributes["code.file.path"] == "shop/orders.py"
        assert attributes["code.line.number"] == 42
        assert attributes["code.function.name"] == "list_orders"

    def test_rows_that_were_changed_were_not_returned(self, builder, record):
        add(record, "DELETE FROM orders", rows=3)
        attributes = builder.build(record)[1].attributes
        assert attributes["upshift.db.changed_rows"] == 3
        assert "db.response.returned_rows" not in attributes

    def test_a_long_text_is_cut(self, builder, record):
        add(record, "SELECT " + "a, " * 100_000)
        assert len(builder.build(record)[1].attributes["db.query.text"]) == spans.MAX_QUERY_LENGTH

    def test_each_has_an_id_of_its_own(self, builder, record):
        for _ in range(100):
            add(record)
        built = builder.build(record)
        assert len({span.context.span_id for span in built}) == 101
        assert {span.context.trace_id for span in built} == {int(TRACE, 16)}
        assert {span.parent.span_id for span in built[1:]} == {int(record.span_id, 16)}

    def test_beyond_the_bound_they_are_counted(self, builder, record):
        for _ in range(MAX_STATEMENT_SPANS + 5):
            add(record)
        record.statements_dropped = 7
        built = builder.build(record)
        assert len(built) == 1 + MAX_STATEMENT_SPANS
        assert built[0].attributes["upshift.statements"] == MAX_STATEMENT_SPANS + 12
        assert built[0].attributes["upshift.statements.omitted"] == 12


class TestTime:
    def test_it_is_the_wall_clocks(self, builder, record):
        now = time.time_ns()
        (span,) = builder.build(record)
        assert abs(span.start_time - now) < 60_000_000_000
        assert span.end_time - span.start_time == 250_000_000

    def test_a_clock_that_is_moved_moves_the_spans_of_later_batches_as_a_whole(
        self, builder, record, monkeypatch
    ):
        add(record, execute_seconds=0.02, fetch_seconds=0.03)
        before = builder.build(record)
        year = 365 * 86_400 * 1_000_000_000
        monkeypatch.setattr(spans, "time_ns", lambda: time.time_ns() - year)
        assert [span.start_time for span in builder.build(record)] == [span.start_time for span in before]
        builder.read_clock()
        request, statement = builder.build(record)
        assert abs(before[0].start_time - year - request.start_time) < 60_000_000_000
        assert statement.start_time - request.start_time == before[1].start_time - before[0].start_time
        assert statement.end_time - statement.start_time == 50_000_000


def test_text_that_protobuf_refuses_is_mended(builder, record, caplog):
    record.path = "/caf\udce9"
    add(record, "SELECT 'x' AS \"\udce9\"", site=CallSite("/srv/caf\udce9.py", 1, "f"))
    encoded = encode_spans(builder.build(record)).SerializeToString()
    assert b"/caf?" in encoded
    assert b"/srv/caf?.py" in encoded
    assert not caplog.records
