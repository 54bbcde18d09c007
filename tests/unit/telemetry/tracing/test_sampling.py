"""Which requests are traced by chance."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upshift.record import Record
from upshift.record.identity import Ids
from upshift.telemetry.tracing.sampling import HeadSampling


def record_of(trace_id, *, is_sampled=None) -> Record:
    record = Record("GET", "/", 0.0)
    record.trace_id = trace_id
    record.is_sampled = is_sampled
    return record


@pytest.mark.parametrize("is_sampled", [True, False])
@pytest.mark.parametrize("rate", [0.0, 0.5, 1.0])
def test_the_callers_flag_decides(is_sampled, rate):
    assert HeadSampling(rate)(record_of("0" * 31 + "1", is_sampled=is_sampled)) is is_sampled


@given(st.text("0123456789abcdef", min_size=32, max_size=32), st.floats(0, 1))
def test_a_trace_gets_the_same_answer_everywhere(trace_id, rate):
    assert HeadSampling(rate)(record_of(trace_id)) is HeadSampling(rate)(record_of(trace_id))


@given(st.text("0123456789abcdef", min_size=32, max_size=32), st.floats(0, 1), st.floats(0, 1))
def test_what_a_lower_rate_takes_a_higher_one_takes_too(trace_id, one, other):
    lower, higher = sorted((one, other))
    assert HeadSampling(higher)(record_of(trace_id)) or not HeadSampling(lower)(record_of(trace_id))


def test_none_and_all_are_exactly_that():
    ids = Ids()
    records = [record_of(ids.mint()) for _ in range(1_000)]
    assert not any(map(HeadSampling(0.0), records))
    assert all(map(HeadSampling(1.0), records))


@pytest.mark.parametrize("rate", [0.01, 0.05, 0.5])
def test_of_ids_that_count_on_the_share_is_the_rate(rate):
    # Seven standard deviations of a fair draw: it fails once in 10^11 runs.
    ids, size = Ids(), 20_000
    taken = sum(map(HeadSampling(rate), (record_of(ids.mint()) for _ in range(size))))
    assert abs(taken - rate * size) < 7 * (size * rate * (1 - rate)) ** 0.5
