"""Trends between periods: what is told, and that noise is not."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upshift.sql.analysis.trends import TIMES, compare, halves
from upshift.sql.analysis.windows import Usage, Window


def window(executions, records=20):
    """A window with the times of each digest's executions."""
    made = Window()
    made.records = records
    for digest, times in executions.items():
        made.usage[digest] = Usage(len(times), sum(map(math.log, times)))
    return made


def period(seconds, *, windows=10, count=20, records=20, digest="d", spread=0.1, seed=0):
    generator = random.Random(seed)
    return [
        window({digest: [seconds * generator.lognormvariate(0, spread) for _ in range(count)]}, records)
        for _ in range(windows)
    ]


def kinds(before, after):
    return [trend.kind for trend in compare(before, after)]


@pytest.mark.parametrize(("ratio", "kind"), [(2.0, "slower"), (0.5, "faster")])
def test_a_statement_that_takes_another_time_is_told_with_its_interval(ratio, kind):
    (trend,) = compare(period(0.01, seed=1), period(0.01 * ratio, seed=2))
    assert trend.kind == kind
    assert trend.low <= ratio <= trend.high
    assert trend.after / trend.before == pytest.approx(ratio, rel=0.1)


@pytest.mark.parametrize(("count", "kind"), [(60, "more frequent"), (7, "less frequent")])
def test_a_statement_that_is_sent_more_or_less_often_for_each_request_is_told(count, kind):
    (trend,) = compare(period(0.01, count=20), period(0.01, count=count))
    assert trend.kind == kind


def test_more_requests_alone_make_no_statement_more_frequent():
    assert kinds(period(0.01, count=20, records=20), period(0.01, count=80, records=80, seed=3)) == []


def test_a_statement_that_was_never_there_before_is_new_and_the_other_way_round_gone():
    before, after = period(0.01), period(0.01, digest="other")
    assert sorted(kinds(before, after)) == ["gone", "new"]


def test_what_came_in_one_window_only_is_no_news():
    after = period(0.01)
    after[3].usage["once"] = Usage(1_000, -5_000.0)
    assert kinds(period(0.01), after) == []


def test_few_executions_are_no_trend():
    assert kinds(period(0.01, count=2), period(0.05, count=2)) == []


def test_few_windows_are_no_trend():
    assert kinds(period(0.01, windows=3), period(0.05, windows=3)) == []


def test_a_change_too_small_to_matter_is_not_told():
    near = (1 + TIMES) / 2
    assert kinds(period(0.01, spread=0.001), period(0.01 * near, spread=0.001)) == []


def test_a_difference_of_microseconds_is_the_machines():
    assert kinds(period(0.00002), period(0.00004)) == []


def test_one_bad_window_is_no_trend():
    after = period(0.01, seed=5)
    after[4] = window({"d": [1.0] * 20})
    assert kinds(period(0.01), after) == []


def test_bad_windows_on_both_sides_do_not_hide_a_trend():
    before, after = period(0.01, windows=12), period(0.03, windows=12)
    before[4], after[5] = window({"d": [1.0] * 20}), window({"d": [0.0005] * 20})
    assert kinds(before, after) == ["slower"]


def test_an_empty_period_tells_nothing():
    assert compare([], period(0.01)) == ()
    assert compare([Window()] * 10, period(0.01)) == ()


def test_the_largest_change_comes_first():
    before, after = period(0.01), period(0.02)
    for one, other in zip(before, after, strict=True):
        one.usage["e"] = Usage(20, 20 * math.log(0.01))
        other.usage["e"] = Usage(20, 20 * math.log(0.05))
    assert [trend.digest for trend in compare(before, after)] == ["e", "d"]


@pytest.mark.parametrize("bursts", [0.0, 0.15, 0.3])
def test_of_a_hundred_comparisons_of_noise_no_more_than_five_tell_a_trend(bursts):
    """Twenty statements whose times scatter, with whole windows slowed by neighbours; the seeds are fixed."""
    names = [f"d{number}" for number in range(20)]

    def noisy(generator):
        slowed = 1 + generator.random() * 2 * (generator.random() < bursts)
        return window(
            {name: [0.01 * slowed * generator.lognormvariate(0, 0.8) for _ in range(10)] for name in names}
        )

    def is_told(seed):
        generator = random.Random(seed)
        return bool(compare([noisy(generator) for _ in range(12)], [noisy(generator) for _ in range(12)]))

    assert sum(map(is_told, range(100))) <= 5  # the confidence that is promised


@given(st.integers(2, 30))
def test_halves_are_all_windows_in_their_order(count):
    windows = [window({}, records=number) for number in range(count)]
    before, after = halves(windows)
    assert [*before, *after] == windows
    assert len(after) - len(before) in {0, 1}
