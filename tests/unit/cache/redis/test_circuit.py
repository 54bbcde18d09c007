"""When Redis is asked, and when a writer need not wait for it."""

from __future__ import annotations

import pytest

from upshift.cache.redis.circuit import MARGIN_SECONDS, Circuit

FENCE, CLOSED = 1.0, 2.0


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def opened():
    return []


@pytest.fixture
def circuit(clock, opened):
    return Circuit(FENCE, CLOSED, lambda: opened.append(clock.now), clock)


def fail(circuit, clock, seconds=0.04):
    began = clock.now
    clock.now += seconds
    circuit.failed(began, "timed out")


def test_redis_is_not_asked_before_it_was_heard_of(circuit, clock):
    assert not circuit.is_usable()
    circuit.beaten(clock.now)
    assert circuit.is_usable()


def test_one_failure_opens_it_where_no_heartbeat_has_passed_for_long(circuit, clock, opened):
    circuit.beaten(clock.now)
    clock.now += FENCE
    assert circuit.is_usable()  # this process may have had no time to ask
    fail(circuit, clock)
    assert not circuit.is_usable()
    assert len(opened) == 1


def test_three_failures_after_each_other_open_it_and_only_a_heartbeat_closes_it(circuit, clock, opened):
    circuit.beaten(clock.now)
    for _ in range(3):
        assert circuit.is_usable()
        fail(circuit, clock)
    assert not circuit.is_usable()
    assert opened == [clock.now]
    circuit.succeeded()
    assert not circuit.is_usable()
    circuit.beaten(clock.now)
    assert circuit.is_usable()
    assert circuit.openings == 1


def test_what_fails_together_has_failed_once(circuit, clock, opened):
    circuit.beaten(clock.now)
    began = clock.now
    clock.now += 0.04
    for _ in range(1_000):
        circuit.failed(began, "timed out")

    assert circuit.failures == 1
    assert circuit.is_usable()
    assert opened == []


def test_a_success_between_makes_failures_count_anew(circuit, clock):
    circuit.beaten(clock.now)
    for _ in range(10):
        fail(circuit, clock)
        circuit.succeeded()

    assert circuit.is_usable()


def test_the_fence_is_over_a_life_after_redis_went_away(circuit, clock):
    circuit.beaten(clock.now)
    fail(circuit, clock)
    clock.now += FENCE
    fail(circuit, clock, 0.0)
    assert not circuit.is_fence_over()
    clock.now += MARGIN_SECONDS
    assert circuit.is_fence_over()


def test_without_a_try_that_failed_lately_a_new_fence_may_be_in_use(circuit, clock):
    circuit.beaten(clock.now)
    fail(circuit, clock)
    clock.now += FENCE + 0.5
    fail(circuit, clock)
    assert circuit.is_fence_over()
    clock.now += CLOSED
    assert not circuit.is_fence_over()


@pytest.mark.parametrize("how", ["beaten", "succeeded"])
def test_whoever_was_heard_of_again_has_a_fence(circuit, clock, how):
    circuit.beaten(clock.now)
    slow = clock.now
    fail(circuit, clock)
    circuit.succeeded()
    circuit.failed(slow, "one that was asked before the last failure")
    circuit.beaten(clock.now) if how == "beaten" else circuit.succeeded()
    clock.now += 60
    fail(circuit, clock)

    assert not circuit.is_fence_over()
