"""Where the control law leads, and that it stays there: on servers that are formulas, and noisy."""

from __future__ import annotations

import math
import random
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from upshift.sql.pool.climb import FEWEST, MAX_PAIRS, NOISE, REST, TARGET, Climb, Trial, Turn, has_shifted

TASKS = 50


def processors(count):
    return lambda limit: 400 * min(limit, count)


def contention(serial, crosstalk):
    """Gunther's universal scalability law."""
    return lambda limit: 400 * limit / (1 + serial * (limit - 1) + crosstalk * limit * (limit - 1))


def waiting(limit):
    """A server that only waits: the more, the better."""
    return 50 * limit


SERVERS = {
    "eight processors": processors(8),
    "some contention": contention(0.1, 0.002),
    "much contention": contention(0.3, 0.003),
    "hardly parallel": contention(0.8, 0.004),
    "crosstalk alone": contention(0.0, 0.00145),
    "a row that all want": lambda limit: 700 * limit if limit < 2 else 1400 * (limit / 2) ** -0.3,
    "waits only": waiting,
}


def run(climb, throughput, seconds, *, noise=0.0, seed=1, start=0.0, population=TASKS):
    """Run turns until so many seconds are over; return the limits that were in force, and the end."""
    rng, now, limits = random.Random(seed), start, []
    while now < start + seconds:
        limit = climb.next_limit(now)
        limits.append(limit)
        rate = throughput(min(limit, population)) * math.exp(rng.gauss(0, noise))
        seconds_of_turn = max(0.2, 40 / rate)
        now += seconds_of_turn
        climb.observe(
            Turn(limit, seconds_of_turn, int(rate * seconds_of_turn), float(population), population), now
        )
    return limits, now


def share(throughput, limit, most=TASKS):
    return throughput(limit) / max(throughput(each) for each in range(1, most + 1))


@pytest.mark.parametrize("noise", [0.0, 0.03])
@pytest.mark.parametrize("start", [1, 5, 50])
@pytest.mark.parametrize("server", SERVERS)
def test_a_wrong_size_is_right_within_half_a_minute(server, start, noise):
    climb = Climb(start, least=1, most=TASKS)
    run(climb, SERVERS[server], 30, noise=noise)
    assert share(SERVERS[server], climb.limit) >= 0.94


@settings(deadline=None, max_examples=60)
@given(
    serial=st.floats(0, 0.9),
    crosstalk=st.floats(0, 0.01),
    start=st.integers(1, TASKS),
    seed=st.integers(0, 1_000),
)
@example(serial=0.0, crosstalk=0.00105567, start=1, seed=1)
@example(serial=0.0, crosstalk=0.00145, start=8, seed=321)
def test_on_any_server_that_scales_so_the_size_ends_near_the_best(serial, crosstalk, start, seed):
    throughput = contention(serial, crosstalk)
    climb = Climb(start, least=1, most=TASKS)
    run(climb, throughput, 120, noise=0.02, seed=seed)
    assert share(throughput, climb.limit) >= 0.9


@pytest.mark.parametrize("noise", [0.0, 0.02])
@pytest.mark.parametrize("start", [8, 10])
@pytest.mark.parametrize("server", SERVERS)
def test_it_comes_to_rest_and_seldom_tries_again(server, start, noise):
    climb = Climb(start, least=1, most=TASKS)
    _, now = run(climb, SERVERS[server], 120, noise=noise, seed=321)
    decisions = climb.decisions
    limits, _ = run(climb, SERVERS[server], 300, noise=noise, seed=322, start=now)
    assert climb.decisions - decisions <= 15
    good = [limit for limit in limits if share(SERVERS[server], limit) >= 0.9]
    assert len(good) > len(limits) * 0.9


def test_it_follows_a_server_that_becomes_slower_and_back():
    climb = Climb(5, least=1, most=TASKS)
    _, now = run(climb, processors(4), 60)
    assert climb.limit <= 10
    _, now = run(climb, waiting, 30, start=now)
    assert climb.limit >= 47
    run(climb, contention(0.8, 0.02), 30, start=now)
    assert climb.limit <= 10


def test_it_follows_a_server_that_became_slower_while_nobody_asked():
    climb = Climb(10, least=1, most=TASKS)
    _, now = run(climb, SERVERS["a row that all want"], 300)
    assert climb.limit <= 4
    climb.idle()
    run(climb, waiting, 24, start=now + 1)
    assert share(waiting, climb.limit) >= 0.94


def test_without_traffic_nothing_is_decided():
    climb = Climb(7, least=1, most=TASKS)
    for second in range(100):
        assert climb.next_limit(second) == 7
        climb.observe(Turn(7, 1.0, FEWEST - 1, 0.5, 2), second)
    climb.idle()
    assert (climb.limit, climb.decisions) == (7, 0)


def test_a_pause_in_the_middle_of_a_trial_concludes_nothing():
    climb = Climb(7, least=1, most=TASKS)
    run(climb, waiting, 0.3)
    climb.idle()
    assert climb.is_settled
    assert climb.limit == 7


def test_a_limit_that_is_not_reached_is_not_raised():
    climb = Climb(30, least=1, most=TASKS)
    run(climb, waiting, 60, population=6)
    assert climb.limit == 30


def test_a_limit_that_is_not_reached_is_lowered_where_fewer_at_a_time_are_better():
    climb = Climb(50, least=1, most=TASKS)
    run(climb, SERVERS["a row that all want"], 60, population=40)
    assert climb.limit <= 10


@pytest.mark.parametrize("most", [1, 3, 8])
def test_it_stays_within_bounds_that_move(most):
    climb = Climb(20, least=1, most=TASKS)
    run(climb, waiting, 10)
    climb.most = most
    limits, _ = run(climb, waiting, 30, start=100.0)
    assert max(limits) <= most
    assert climb.limit == most


def test_a_bound_below_the_least_gives_the_least():
    climb = Climb(20, least=4, most=TASKS)
    climb.most = 2
    limits, _ = run(climb, waiting, 10)
    assert set(limits) == {4}


def test_a_clock_that_jumps_ahead_only_ends_a_rest():
    climb = Climb(8, least=1, most=TASKS)
    _, now = run(climb, processors(8), 60)
    run(climb, processors(8), 10, start=now + 1e9)
    assert share(processors(8), climb.limit) >= 0.94


def test_a_trial_takes_turns_so_that_a_trend_favours_neither():
    trial = Trial(4, 8, TARGET, NOISE)
    order = []
    for number in range(8):
        order.append(trial.next_limit)
        trial.add(Turn(trial.next_limit, 1.0, 100 + number, 50.0, 50))
    assert order == [4, 8, 8, 4, 4, 8, 8, 4]


def test_a_trial_ends_with_the_likelier_side_or_with_none():
    for gain, verdict in ((0.0, "low"), (0.05, "alike"), (0.5, "high")):
        trial = Trial(9, 11, TARGET, noise=10.0)  # so that nothing is proved
        for _ in range(2 * MAX_PAIRS):
            assert trial.verdict is None
            limit = trial.next_limit
            trial.add(Turn(limit, 1.0, round(1e6 * limit**gain), 50.0, 50))
        assert trial.verdict == (verdict if verdict != "low" else "alike")


def test_a_shift_within_a_trial_is_noticed():
    trial = Trial(9, 10, TARGET, noise=1.0)
    for number in range(10):
        trial.add(Turn(trial.next_limit, 1.0, 1_000 if number < 6 else 300, 50.0, 50))
    assert trial.verdict == "changed"
    assert not has_shifted([0.0] * 10)


def test_a_rest_lasts_longer_each_time_nothing_was_found():
    climb = Climb(50, least=1, most=50)
    begun, was_settled, now = [], True, 0.0
    while now < 200:
        _, now = run(climb, waiting, 0.2, start=now)
        if was_settled and not climb.is_settled:
            begun.append(now)
        was_settled = climb.is_settled
    rests = [later - earlier for earlier, later in pairwise(begun)]
    assert rests[0] >= REST
    assert rests == sorted(rests)
