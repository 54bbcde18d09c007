"""What Prometheus reads: both formats, parsed back by prometheus_client's parsers."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from upshift.telemetry import Metrics, expose

OPENMETRICS = "application/openmetrics-text; version=1.0.0,text/plain;version=0.0.4;q=0.5"


def read(metrics, accept):
    content_type, body = expose(metrics, accept)
    parse = parse_openmetrics if "openmetrics" in content_type else parse_text
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in parse(body.decode())
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


@pytest.fixture
def metrics():
    return Metrics()


@pytest.mark.parametrize("accept", ["", OPENMETRICS])
def test_each_kind_is_read_back_as_it_is(metrics, accept):
    metrics.counter("orders", "Orders", labels={"channel": ("web",)}).add(3, channel="web")
    metrics.gauge("open_orders", "Open orders").set(-2.5)
    wait = metrics.histogram("wait", "Wait", buckets=(0.5, 1))
    for seconds in (0.1, 0.7, 0.7, 3):
        wait.observe(seconds)
    assert read(metrics, accept) == {
        ("orders_total", ("channel", "web")): 3.0,
        ("open_orders",): -2.5,
        ("wait_seconds_bucket", ("le", "0.5")): 1.0,
        ("wait_seconds_bucket", ("le", "1.0")): 3.0,
        ("wait_seconds_bucket", ("le", "+Inf")): 4.0,
        ("wait_seconds_count",): 4.0,
        ("wait_seconds_sum",): 4.5,
    }


def test_openmetrics_is_written_to_who_names_it(metrics):
    assert expose(metrics, OPENMETRICS).content_type.startswith("application/openmetrics-text")
    assert expose(metrics, OPENMETRICS).body.endswith(b"# EOF\n")
    assert expose(metrics, "*/*").content_type.startswith("text/plain; version=0.0.4")


def test_openmetrics_tells_units_and_the_trace_of_an_observation(metrics):
    wait = metrics.histogram("wait", "Wait", buckets=(1,)).labelled()
    wait.observe(0.25, "0af7651916cd43dd8448eb211c80319c")
    body = expose(metrics, OPENMETRICS).body.decode()
    assert "# UNIT wait_seconds seconds\n" in body
    assert 'wait_seconds_bucket{le="1.0"} 1.0 # {trace_id="0af7651916cd43dd8448eb211c80319c"} 0.25 ' in body
    assert "trace_id" not in expose(metrics).body.decode()


def test_an_empty_label_is_none(metrics):
    metrics.counter("orders", "Orders", labels={"error_type": 5}).add(error_type="")
    assert read(metrics, "") == {("orders_total",): 1.0}


def test_the_totals_of_all_workers_are_written_where_they_are_given(metrics):
    metrics.counter("orders", "Orders", labels={"channel": 5}).add(1, channel="web")

    def totals(series):
        own = {(each.family, each.labels): each.values for each in series}
        return {
            ("orders", ("web",)): [own["orders", ("web",)][0] + 10],
            ("orders", ("phone",)): [7.0],  # this process has never counted one
            ("gone", ()): [1.0],  # nor declared that
        }

    body = expose(metrics, totals=totals).body.decode()
    assert 'orders_total{channel="web"} 11.0\n' in body
    assert 'orders_total{channel="phone"} 7.0\n' in body
    assert "gone" not in body


def test_what_a_worker_with_other_code_has_counted_does_not_break_the_page(metrics):
    metrics.counter("orders", "Orders", labels={"channel": 5}).add(1, channel="web")
    metrics.histogram("wait", "Wait", buckets=(1, 2)).observe(1.5)

    def totals(series):
        return {(each.family, each.labels): each.values for each in series} | {
            ("orders", ("web", "abroad")): [7.0],  # with a label more
            ("wait_seconds", ()): [1.0, 2.0, 3.0],  # with a bucket less
        }

    body = expose(metrics, totals=totals).body.decode()
    assert 'orders_total{channel="web"} 1.0\n' in body
    assert "abroad" not in body
    assert "wait_seconds_count" not in body


def test_gauges_are_brought_up_to_date_first(metrics):
    gauge = metrics.gauge("open_orders", "Open orders")
    metrics.before_collecting(lambda: gauge.set(4))
    assert read(metrics, "") == {("open_orders",): 4.0}


@given(
    st.text(max_size=300),
    st.lists(st.tuples(st.text(max_size=300), st.floats(0, 1e300)), max_size=5),
    st.sampled_from(["", OPENMETRICS]),
)
def test_no_text_breaks_the_format(text, counted, accept):
    metrics = Metrics()
    orders = metrics.counter("orders", text, labels={"shop": 100})
    for shop, amount in counted:
        orders.add(amount, shop=shop)
    if accept == "" and any(character in text for character in "\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"):
        return  # prometheus_client's own text parser splits lines there, Prometheus does not
    total = sum(series.values[0] for series in orders.series.values())
    assert math.isclose(sum(read(metrics, accept).values()), total)
