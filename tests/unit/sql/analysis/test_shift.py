"""Shifts between samples: exact distributions, and the confidence that is promised."""

from __future__ import annotations

import random
from itertools import combinations
from math import comb

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upshift.sql.analysis.shift import _ways, absence, shift

VALUES = st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=12)


@pytest.mark.parametrize(("first", "second"), [(1, 1), (2, 3), (4, 4), (5, 3), (1, 7)])
def test_the_distribution_is_that_of_all_orders(first, second):
    counted = [0] * (first * second + 1)
    for places in combinations(range(first + second), first):
        counted[sum(place - number for number, place in enumerate(places))] += 1
    assert _ways(first, second) == counted


@given(st.integers(1, 24), st.integers(1, 24))
def test_all_orders_are_counted_once(first, second):
    ways = _ways(first, second)
    assert sum(ways) == comb(first + second, first)
    assert ways == ways[::-1]


@given(VALUES, VALUES, st.floats(0.001, 0.5))
def test_the_estimate_is_inside_of_its_interval(before, after, alpha):
    found = shift(before, after, alpha)
    assert found is None or found.low <= found.estimate <= found.high


@given(VALUES, VALUES)
def test_more_confidence_is_a_wider_interval_or_none(before, after):
    loose, strict = shift(before, after, 0.2), shift(before, after, 0.01)
    if strict is not None:
        assert loose is not None
        assert strict.low <= loose.low
        assert loose.high <= strict.high


@given(VALUES, VALUES)
def test_the_other_way_round_it_is_the_other_way_round(before, after):
    one, other = shift(before, after, 0.1), shift(after, before, 0.1)
    assert (one is None) == (other is None)
    if one is not None and other is not None:
        assert one.low == pytest.approx(-other.high)
        assert one.estimate == pytest.approx(-other.estimate)


def test_too_few_values_tell_nothing():
    assert shift([1.0, 1.0, 1.0], [9.0, 9.0, 9.0], 0.05) is None
    assert shift([], [1.0], 0.05) is None


def test_one_wild_value_moves_the_estimate_little():
    calm = [1.0 + i / 100 for i in range(12)]
    found = shift(calm, [*[2.0 + i / 100 for i in range(11)], 500.0], 0.05)
    assert found is not None
    assert found.estimate == pytest.approx(1.0, abs=0.05)


def test_the_interval_holds_the_truth_as_often_as_promised():
    generator = random.Random(7)
    missed = 0
    for _ in range(1_000):
        before = [generator.lognormvariate(0, 1) for _ in range(8)]
        after = [generator.lognormvariate(0, 1) for _ in range(8)]
        found = shift(before, after, 0.05)
        assert found is not None
        missed += not found.low <= 0 <= found.high
    assert missed <= 65  # 50 at most are to be expected, with a deviation of 7


def test_absence_is_the_share_of_ways_to_choose():
    ways = sum(set(chosen) <= set(range(4, 8)) for chosen in combinations(range(8), 3))
    assert absence(3, 4, 4) == pytest.approx(ways / comb(8, 3))
