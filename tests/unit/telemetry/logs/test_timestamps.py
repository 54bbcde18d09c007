"""Times as RFC 3339 writes them."""

import datetime as dt
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upshift.telemetry.logs.timestamps import Timestamps


@given(st.lists(st.integers(0, 253_402_300_799_000_000)))
def test_a_time_can_be_read_back_to_a_microsecond_whatever_was_written_before(microseconds):
    timestamps = Timestamps()
    for each in microseconds:
        read = dt.datetime.fromisoformat(timestamps.at(each / 1e6))
        exact = dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(microseconds=each)
        # A float of that size is no more exact, late in the calendar.
        assert abs((read - exact).total_seconds()) <= 2e-6 + each / 1e6 * 2**-52


@pytest.mark.parametrize("seconds", [math.nan, math.inf, -math.inf, 1e18, -1e18])
def test_a_time_that_no_calendar_has_is_written_as_now(seconds):
    before = dt.datetime.now(tz=dt.UTC)
    read = dt.datetime.fromisoformat(Timestamps().at(seconds))
    assert before - dt.timedelta(seconds=1) < read < before + dt.timedelta(minutes=1)


def test_a_time_before_1970_is_written_as_well():
    assert Timestamps().at(-0.25) == "1969-12-31T23:59:59.750000Z"
