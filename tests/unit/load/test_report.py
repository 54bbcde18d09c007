import json
import math

from hypothesis import given
from hypothesis import strategies as st

from upshift.load.report import Latency, count, nearest_rank
from upshift.load.tally import Tally


@given(st.lists(st.floats(0, 1e6), min_size=1), st.sampled_from([500, 900, 950, 990, 999]))
def test_a_percentile_is_a_sample_that_enough_samples_do_not_exceed(samples, per_mille):
    value = nearest_rank(sorted(samples), per_mille)
    assert value in samples
    assert sum(sample <= value for sample in samples) * 1000 >= per_mille * len(samples)
    assert sum(sample < value for sample in samples) * 1000 < per_mille * len(samples)


def test_without_samples_there_is_no_latency():
    assert Latency.of([]) is None


@given(st.lists(st.floats(0, 100), min_size=1))
def test_percentiles_rise(samples):
    latency = Latency.of(samples)
    assert latency.p50 <= latency.p90 <= latency.p95 <= latency.p99 <= latency.p999 <= latency.max
    assert min(samples) <= latency.mean or math.isclose(min(samples), latency.mean)


def test_counts_sum_over_names():
    first, second = Tally(), Tally()
    first.answered(200, due=1, now=1.5, received_bytes=10)
    first.answered(503, due=1, now=1.25, received_bytes=5)
    second.answered(200, due=1, now=2, received_bytes=1)
    second.failed("timeout", due=1, now=11)
    second.failed("reset", due=1, now=1)
    counts = count([first, second])
    assert counts["requests"] == 5
    assert counts["completed"] == 3
    assert counts["ok"] == 2
    assert counts["errors"] == {"reset": 1, "timeout": 1, "http 503": 1}
    assert counts["statuses"] == {200: 2, 503: 1}
    assert counts["received_bytes"] == 16
    assert counts["latency"].max == 10


def test_a_redirect_is_ok_and_a_refusal_is_not():
    tally = Tally()
    for status in (204, 302, 399, 400, 500):
        tally.answered(status, due=0, now=0, received_bytes=0)
    assert count([tally])["ok"] == 3


def test_a_timeout_counts_with_its_wait_and_other_failures_with_none():
    tally = Tally()
    for failure in ("backlog", "connect", "protocol", "reset", "timeout"):
        tally.failed(failure, due=1, now=3)
    assert list(tally.latencies) == [2.0]


def test_what_came_due_in_the_warm_up_is_not_counted():
    tally = Tally()
    tally.measured_from = 10.0
    tally.answered(200, due=9.9, now=10.5, received_bytes=1)
    tally.failed("reset", due=9.9, now=10.5)
    tally.interrupted(due=9.9)
    assert count([tally])["requests"] == 0
    tally.answered(200, due=10.0, now=10.5, received_bytes=1)
    assert count([tally])["requests"] == 1


def test_a_report_is_plain_json(report):
    plain = json.loads(json.dumps(report.to_dict()))
    assert plain["statuses"] == {"200": 3, "404": 1}
    assert plain["latency"]["p50"] == 0.25
    assert plain["by_request"]["GET /a"]["errors"] == {"timeout": 1, "http 404": 1}
