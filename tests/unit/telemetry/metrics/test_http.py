"""The metrics of requests and statements, from closed records."""

import pytest

from upshift.record import Closing, Keeper, Record, Statement
from upshift.settings import RecordSettings
from upshift.telemetry import HttpMetrics, Metrics

DURATION = "http_server_request_duration_seconds"


@pytest.fixture
def metrics():
    return Metrics()


OPEN: list[Record] = []


@pytest.fixture
def http(metrics):
    return Http(metrics)


class Http:
    """Counts records as they are counted when requests are over: their numbers, and themselves."""

    def __init__(self, metrics):
        self._metrics = HttpMetrics(metrics, digest_of=lambda sql: sql[:6].lower(), opened=lambda: OPEN)
        self._closing = Closing(
            Keeper(RecordSettings()), counted=self._metrics.counted, takers=[self._metrics.add]
        )

    def add(self, record):
        self._closing.close(record)
        self._closing.drain()


def closed(method="GET", route="/orders/{order_id}", status=200, seconds=0.02, **facts):
    record = Record(method, "/orders/7", 0.0)
    record.route, record.status, record.seconds = route, status, seconds
    for name, value in facts.items():
        setattr(record, name, value)
    return record


def ran(sql, seconds=0.001, rows=1, error=None):
    statement = Statement(sql, 0.0)
    statement.execute_seconds, statement.rows, statement.error = seconds, rows, error
    return statement


def series(metrics, family):
    return {each.labels: list(each.values) for each in metrics.series() if each.family == family}


def test_requests_are_counted_by_method_route_and_status(metrics, http):
    http.add(closed())
    http.add(closed())
    http.add(closed(status=404))
    counts = {labels: sum(values[:-1]) for labels, values in series(metrics, DURATION).items()}
    assert counts == {
        ("GET", "/orders/{order_id}", "200", ""): 2,
        ("GET", "/orders/{order_id}", "404", ""): 1,
    }


def test_an_exception_is_the_type_of_the_error_and_a_status_where_there_is_none(metrics, http):
    http.add(closed(status=500, error="ValueError"))
    http.add(closed(status=503))
    assert {labels[2:] for labels in series(metrics, DURATION)} == {("500", "ValueError"), ("503", "503")}


@pytest.mark.parametrize("method", ["BREW", "", "get", "X" * 1_000_000])
def test_an_unknown_method_is_other(metrics, http, method):
    http.add(closed(method=method))
    assert [labels[0] for labels in series(metrics, DURATION)] == ["_OTHER"]


@pytest.mark.parametrize("method", ["GET", "PATCH", "QUERY"])
def test_a_method_that_the_conventions_know_is_told_apart(metrics, http, method):
    http.add(closed(method=method))
    assert [labels[0] for labels in series(metrics, DURATION)] == [method]


def test_all_paths_without_a_route_are_one_series(metrics, http):
    for number in range(1_000):
        record = closed(route=None, status=404)
        record.path = f"/{number}"
        http.add(record)
    assert list(series(metrics, DURATION)) == [("GET", "", "404", "")]


def test_statuses_that_http_does_not_have_are_other(metrics, http):
    for status in (0, 99, 600, 10**9):
        http.add(closed(status=status))
    assert {labels[2] for labels in series(metrics, DURATION)} == {"_OTHER"}


def test_the_sizes_of_bodies_are_counted(metrics, http):
    http.add(closed(request_bytes=10, response_bytes=500))
    (request,) = series(metrics, "http_server_request_body_size_bytes").values()
    (response,) = series(metrics, "http_server_response_body_size_bytes").values()
    assert (request[-1], response[-1]) == (10.0, 500.0)


def test_the_first_byte_is_timed_of_streams_only(metrics, http):
    http.add(closed(first_byte_seconds=0.01))
    http.add(closed(first_byte_seconds=0.01, is_streamed=True))
    http.add(closed(first_byte_seconds=0.01, route="/not/streamed"))
    ((labels, values),) = series(metrics, "http_server_time_to_first_byte_seconds").items()
    assert labels == ("/orders/{order_id}",)
    assert sum(values[:-1]) == 1


def test_a_sampled_trace_is_the_example_of_its_bucket(metrics, http):
    http.add(closed(trace_id="a" * 32))
    http.add(closed(trace_id="b" * 32, is_sampled=True))
    (family,) = [each for each in metrics.families() if each.name == DURATION]
    (histogram,) = family.series.values()
    assert [each.trace_id for each in histogram.exemplars if each] == ["b" * 32]


@pytest.mark.usefixtures("http")
def test_open_requests_are_told_when_they_are_asked_for(metrics, monkeypatch):
    found = Record("BREW", "/orders/7", 0.0)
    found.route = "/orders/{order_id}"
    monkeypatch.setattr(f"{__name__}.OPEN", [Record("GET", "/", 0.0), Record("GET", "/", 0.0), found])
    metrics.families()
    told = {("GET", ""): [2.0], ("_OTHER", "/orders/{order_id}"): [1.0]}
    assert series(metrics, "http_server_active_requests") == told


@pytest.mark.usefixtures("http")
def test_of_a_kind_that_has_none_open_any_more_zero_is_told(metrics, monkeypatch):
    monkeypatch.setattr(f"{__name__}.OPEN", [Record("GET", "/", 0.0)])
    metrics.families()
    monkeypatch.setattr(f"{__name__}.OPEN", [])
    metrics.families()
    assert series(metrics, "http_server_active_requests") == {("GET", ""): [0.0]}


@pytest.mark.parametrize("error", ["IncompleteResponse", "ClientDisconnect", "CancelledError"])
def test_a_client_that_has_gone_is_no_type_of_error(metrics, http, error):
    http.add(closed(error=error))
    assert list(series(metrics, "http_server_request_duration_seconds")) == [
        ("GET", "/orders/{order_id}", "200", "")
    ]


def test_statements_are_counted_by_operation_kind_route_and_error(metrics, http):
    record = closed()
    record.statements = [
        ran("SELECT 1"),
        ran("  select 2"),
        ran("\nSELECT\n 3"),
        ran("INSERT x", error="IntegrityError", rows=None),
    ]
    http.add(record)
    counts = {
        labels: sum(values[:-1])
        for labels, values in series(metrics, "db_client_operation_duration_seconds").items()
    }
    assert counts == {
        ("SELECT", "select", "/orders/{order_id}", ""): 1,
        ("SELECT", "  sele", "/orders/{order_id}", ""): 1,
        ("SELECT", "\nselec", "/orders/{order_id}", ""): 1,
        ("INSERT", "insert", "/orders/{order_id}", "IntegrityError"): 1,
    }
    assert series(metrics, "db_client_rows") == {("/orders/{order_id}",): [3.0]}


def test_statements_of_a_request_are_counted_with_those_that_were_not_kept(metrics, http):
    record = closed()
    record.statements, record.statements_dropped = [ran("SELECT 1")], 2_500
    http.add(record)
    (values,) = series(metrics, "http_server_request_statements").values()
    assert values[-1] == 2_501.0


def test_hostile_requests_do_not_grow_the_tables(metrics, http):
    for number in range(12_000):
        http.add(closed(route=f"/r{number}", status=number, error=f"E{number}"))
    assert sum(1 for _ in metrics.series()) < 40_000


def test_methods_that_clients_invent_do_not_take_the_room_of_routes(metrics, http):
    for number in range(100):
        http.add(closed(method=f"BREW{number}", route=None, status=404))
    http.add(closed())
    counts = {labels[0]: sum(values[:-1]) for labels, values in series(metrics, DURATION).items()}
    assert counts == {"_OTHER": 100, "GET": 1}
