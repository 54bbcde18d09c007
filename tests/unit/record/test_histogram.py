"""What `Histogram` promises: exact totals, quantiles within its relative error, fixed memory."""

import math
import tracemalloc

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from upshift.record import Histogram
from upshift.record.histogram import HIGHEST, LOWEST, RELATIVE_ERROR

in_range = st.floats(LOWEST, HIGHEST)
durations = st.floats(0, 1e9)
quantiles = st.floats(0, 1)


def histogram_of(values):
    histogram = Histogram()
    for value in values:
        histogram.add(value)
    return histogram


def nearest_rank(values, q):
    return sorted(values)[max(1, math.ceil(q * len(values))) - 1]


def state(histogram):
    return list(histogram._buckets), histogram.count, histogram.min, histogram.max, histogram.rejected


@given(st.lists(in_range, min_size=1), quantiles)
@example([LOWEST], 0.5)
@example([HIGHEST], 0.5)
@example([LOWEST, HIGHEST], 1.0)
def test_a_quantile_is_within_the_relative_error_of_the_nearest_rank(values, q):
    assert histogram_of(values).quantile(q) == pytest.approx(
        nearest_rank(values, q), rel=RELATIVE_ERROR + 1e-9, abs=0
    )


def test_the_relative_error_is_one_percent():
    assert RELATIVE_ERROR == 0.01


@given(st.lists(durations, min_size=1))
def test_count_sum_minimum_maximum_and_mean_are_exact_inside_the_range_and_outside(values):
    histogram = histogram_of(values)
    assert histogram.count == len(values)
    assert histogram.sum == pytest.approx(math.fsum(values))
    assert histogram.mean == histogram.sum / len(values)
    assert (histogram.min, histogram.max) == (min(values), max(values))


@given(st.lists(durations, min_size=1), quantiles, quantiles)
def test_quantiles_never_leave_the_values_and_never_fall_as_q_grows(values, q1, q2):
    histogram = histogram_of(values)
    low, high = sorted([q1, q2])
    assert min(values) <= histogram.quantile(low) <= histogram.quantile(high) <= max(values)


def test_values_below_the_range_are_reported_as_the_smallest_one():
    assert histogram_of([0.0, 1e-9, 1e-7]).quantile(1.0) == 0.0


def test_values_above_the_range_are_reported_as_the_largest_one():
    assert histogram_of([4000.0, 5000.0]).quantile(0.1) == 5000.0


@given(st.lists(durations), st.lists(durations))
def test_merging_equals_adding_everything_to_one(ours, theirs):
    merged = histogram_of(ours)
    other = histogram_of(theirs)
    merged.merge(other)
    assert repr(state(merged)) == repr(state(histogram_of(ours + theirs)))  # repr, as NaN is not equal to NaN
    assert merged.sum == pytest.approx(math.fsum(ours + theirs))
    assert repr(state(other)) == repr(state(histogram_of(theirs)))


def test_a_histogram_can_be_merged_with_itself():
    histogram = histogram_of([0.1, 0.2])
    histogram.merge(histogram)
    assert (histogram.count, histogram.sum, histogram.max) == (4, pytest.approx(0.6), 0.2)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -1e-9, -1.0])
def test_what_is_no_duration_is_counted_as_rejected_and_changes_nothing_else(value):
    histogram = histogram_of([0.1])
    before = state(histogram)[:-1]
    histogram.add(value)
    assert state(histogram)[:-1] == before
    assert (histogram.sum, histogram.rejected) == (0.1, 1)


@given(st.lists(st.lists(st.floats())))
def test_adding_some_at_a_time_equals_adding_each(batches):
    histogram, each = Histogram(), histogram_of([value for batch in batches for value in batch])
    for batch in batches:
        histogram.add_all(tuple(batch))
    assert repr(state(histogram)) == repr(state(each))
    assert histogram.sum == pytest.approx(each.sum)


def test_merging_adds_the_rejected_ones_too():
    histogram = histogram_of([math.nan])
    histogram.merge(histogram_of([math.inf, -1.0]))
    assert (histogram.rejected, histogram.count) == (3, 0)
    assert math.isnan(histogram.min)


def test_an_empty_histogram_has_no_minimum_maximum_mean_or_quantile():
    histogram = Histogram()
    assert (histogram.count, histogram.sum) == (0, 0.0)
    figures = (histogram.min, histogram.max, histogram.mean, histogram.quantile(0.5))
    assert all(math.isnan(figure) for figure in figures)


@pytest.mark.parametrize("q", [-0.01, 1.01, 95, math.nan])
def test_a_quantile_outside_0_to_1_is_refused_with_the_range_named(q):
    with pytest.raises(ValueError, match="from 0 to 1"):
        histogram_of([0.1]).quantile(q)


def test_memory_is_under_10_kb_and_does_not_grow_with_what_is_added():
    tracemalloc.start()
    try:
        histogram = Histogram()
        empty, _ = tracemalloc.get_traced_memory()
        for i in range(20_000):
            histogram.add(LOWEST * 1.001**i)
        full, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert empty < 10_000
    assert full - empty < 500  # the five figures themselves
