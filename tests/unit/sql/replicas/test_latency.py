from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from upshift.sql.replicas.latency import Latency

seconds = st.floats(0.0, 1e6)


@given(seconds, seconds, st.floats(0.0, 1e9))
def test_it_stays_between_what_it_was_and_what_it_is_told(before, told, later):
    latency = Latency(before, now=0.0)
    latency.tell(told, now=later)
    assert min(before, told) * 0.999 <= latency.seconds <= max(before, told) * 1.001


def test_it_goes_up_at_once_and_comes_down_with_time():
    latency = Latency(0.001, now=0.0)
    latency.tell(1.0, now=0.1)
    assert latency.seconds == 1.0
    latency.tell(0.001, now=0.2)
    assert latency.seconds > 0.98
    latency.tell(0.001, now=60.0)
    assert latency.seconds < 0.01


def test_a_clock_that_goes_back_does_no_harm():
    latency = Latency(1.0, now=100.0)
    latency.tell(0.5, now=50.0)
    assert 0.5 <= latency.seconds <= 1.0
