from itertools import islice, pairwise

from hypothesis import given
from hypothesis import strategies as st

from upshift.load.arrivals import poisson, uniform


@given(st.integers(1, 10_000), st.integers(1, 5))
def test_uniform_arrivals_are_as_many_as_rate_and_time_say(rate, seconds):
    assert sum(1 for _ in uniform(rate, seconds)) == rate * seconds


@given(st.floats(0.001, 1e5), st.floats(0.001, 100))
def test_uniform_arrivals_rise_and_stay_within_the_time(rate, seconds):
    offsets = list(islice(uniform(rate, seconds), 1_000))
    assert all(before < after for before, after in pairwise(offsets))
    assert all(0 <= offset < seconds for offset in offsets)


@given(st.floats(0.001, 1e5), st.floats(0.001, 100), st.integers())
def test_poisson_arrivals_rise_and_stay_within_the_time(rate, seconds, seed):
    offsets = list(islice(poisson(rate, seconds, seed), 1_000))
    assert all(before <= after for before, after in pairwise(offsets))
    assert all(0 <= offset < seconds for offset in offsets)


def test_poisson_gaps_vary_as_much_as_their_mean():
    gaps = [after - before for before, after in pairwise(poisson(100, 100, seed=1))]
    mean = sum(gaps) / len(gaps)
    deviation = (sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) ** 0.5
    assert 0.0095 < mean < 0.0105
    assert 0.9 < deviation / mean < 1.1


def test_another_seed_gives_other_arrivals():
    assert list(poisson(10, 10, seed=1)) != list(poisson(10, 10, seed=2))
