"""Equal windows of time: how they grow, what they keep, and what moves them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upshift.sql.analysis.windows import LONGEST_SECONDS, MAX_WINDOWS, Usage, Windows

TIMES = st.floats(-1e6, 1e6)


def note(windows, started, count=1):
    window = windows.at(started)
    window.records += 1
    for _ in range(count):
        window.of("d").add_all([0.01])


@given(st.lists(TIMES, max_size=200))
def test_windows_that_may_grow_lose_nothing_and_stay_few(times):
    windows = Windows(float("inf"))
    for each in times:
        note(windows, each)
    kept = windows.all()
    assert len(kept) <= MAX_WINDOWS
    assert sum(window.records for window in kept) == len(times)
    assert sum(window.of("d").count for window in kept) == len(times)


@given(st.lists(TIMES, min_size=1, max_size=200))
def test_windows_of_a_running_application_are_bounded_in_number_and_length(times):
    windows = Windows()
    for each in times:
        note(windows, each)
    assert 1 <= len(windows.all()) <= MAX_WINDOWS
    assert windows.seconds <= LONGEST_SECONDS


@given(st.lists(st.floats(0, 20_000), min_size=1, max_size=100))
def test_what_is_recent_is_kept(times):
    windows = Windows()
    for each in sorted(times):
        note(windows, each)
    recent = [each for each in times if each > max(times) - LONGEST_SECONDS]
    assert sum(window.records for window in windows.all()) >= len(recent)


@given(st.lists(TIMES, min_size=1, max_size=60), st.randoms())
def test_growing_windows_do_not_depend_on_the_order_of_records(times, random):
    shuffled = random.sample(times, len(times))
    one, other = Windows(float("inf")), Windows(float("inf"))
    for a, b in zip(times, shuffled, strict=True):
        note(one, a)
        note(other, b)
    assert one.seconds == other.seconds
    assert [window.records for window in one.all()] == [window.records for window in other.all()]


def test_a_time_that_no_clock_tells_breaks_nothing():
    windows = Windows(float("inf"))
    for each in (0.0, 1.7e308, -1.7e308):
        note(windows, each)
    assert sum(window.records for window in windows.all()) == 3


def test_a_clock_that_jumps_ahead_leaves_the_windows_after_the_jump():
    windows = Windows()
    for second in (*range(0, 6_000, 10), *range(10**6, 10**6 + 6_000, 10)):
        note(windows, float(second))
    kept = windows.all()
    assert len(kept) == MAX_WINDOWS
    assert all(window.records for window in kept[1:-1])


def test_a_record_from_before_all_windows_is_told_in_none():
    windows = Windows()
    for second in range(0, 10_000, 10):
        note(windows, float(second))
    before = [window.records for window in windows.all()]
    note(windows, 0.0)
    assert [window.records for window in windows.all()] == before


def test_a_window_without_records_is_there_between_others():
    windows = Windows()
    note(windows, 1.0)
    note(windows, 4.0)
    assert [window.records for window in windows.all()] == [1, 0, 0, 1]


def test_usage_is_told_by_its_geometric_mean():
    usage = Usage()
    usage.add_all([0.001, 0.1])
    assert (usage.count, math.exp(usage.logs / usage.count)) == (2, pytest.approx(0.01))


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan")])
def test_an_execution_that_took_no_time_has_a_logarithm(seconds):
    usage = Usage()
    usage.add_all([seconds])
    assert math.exp(usage.logs) == pytest.approx(1e-6)
