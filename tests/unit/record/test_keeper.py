"""Which records are kept, and that what is kept is bounded."""

from __future__ import annotations

import pytest

from upshift.record import Histogram, Keeper, Record
from upshift.record import keeper as module
from upshift.record.keeper import LEARNING
from upshift.settings import RecordSettings


def record(path="/", seconds=0.01, *, route="/", status=200, error=None):
    made = Record("GET", path, 0.0)
    made.route = route
    made.seconds = seconds
    made.status = status
    made.error = error
    return made


def keeper_of(*, ring_size=512, sample_rate=0.0):
    return Keeper(RecordSettings(ring_size=ring_size, sample_rate=sample_rate))


def learned(keeper, route="/", seconds=0.01):
    for _ in range(LEARNING):
        keeper.keep(record(seconds=seconds, route=route))
    return keeper


def test_ordinary_records_are_not_kept_without_sampling():
    assert learned(keeper_of()).records() == ()


def test_all_records_are_kept_when_all_are_sampled():
    assert len(learned(keeper_of(sample_rate=1.0)).records()) == LEARNING


def test_a_share_of_ordinary_records_is_kept(monkeypatch):
    draws = iter([0.04, 0.05, 0.5, 0.0, 0.99])
    monkeypatch.setattr(module.random, "random", lambda: next(draws))
    keeper = keeper_of(sample_rate=0.05)
    for number in range(5):
        keeper.keep(record(f"/{number}"))
    assert [kept.path for kept in keeper.records()] == ["/0", "/3"]


@pytest.mark.parametrize(
    "failed",
    [record(status=500), record(status=503), record(error="KeyError"), record(status=200, error="KeyError")],
)
def test_a_failed_record_is_kept(failed):
    keeper = keeper_of()
    keeper.keep(failed)
    assert keeper.records() == (failed,)


@pytest.mark.parametrize("status", [200, 301, 404, 429, 499])
def test_what_the_client_did_wrong_is_no_failure(status):
    keeper = keeper_of()
    keeper.keep(record(status=status))
    assert keeper.records() == ()


def test_a_slow_record_is_kept_once_the_route_is_known():
    keeper = learned(keeper_of())
    slow = record(seconds=1.0)
    keeper.keep(slow)
    assert keeper.records() == (slow,)


def test_nothing_is_slow_while_the_route_is_not_known():
    keeper = keeper_of()
    for seconds in (0.01, 5.0):
        keeper.keep(record(seconds=seconds))
    assert keeper.records() == ()


def test_slow_is_slow_for_its_route():
    keeper = learned(learned(keeper_of(), "/fast", 0.001), "/slow", 1.0)
    fast, slow = record(route="/fast", seconds=0.5), record(route="/slow", seconds=0.5)
    keeper.keep(fast)
    keeper.keep(slow)
    assert keeper.records() == (fast,)


def test_what_is_slow_is_learned_anew():
    keeper = learned(learned(keeper_of()), seconds=1.0)
    before = keeper.records()
    keeper.keep(record(seconds=0.5))
    assert before
    assert keeper.records() == before


def test_the_ring_keeps_the_latest_and_gives_the_oldest_first():
    keeper = keeper_of(ring_size=3, sample_rate=1.0)
    for number in range(10):
        keeper.keep(record(f"/{number}"))
    assert [kept.path for kept in keeper.records()] == ["/7", "/8", "/9"]


def test_every_request_counts_in_its_routes_distribution_kept_or_not():
    keeper = keeper_of()
    for seconds in (0.25, 0.5):
        keeper.keep(record(seconds=seconds, route="/orders/{order_id}"))
    keeper.keep(record(seconds=1.0, route=None))
    durations = keeper.durations()
    assert {name: (one.count, one.sum) for name, one in durations.items()} == {
        "GET /orders/{order_id}": (2, 0.75),
        "GET (no route)": (1, 1.0),
    }


def test_the_number_of_routes_is_bounded_and_failures_of_further_ones_are_kept(monkeypatch):
    monkeypatch.setattr(module, "MAX_ROUTES", 5)
    keeper = keeper_of()
    for number in range(20):
        keeper.keep(record(route=f"/{number}"))
    failed = record(route="/19", status=500)
    keeper.keep(failed)
    assert len(keeper.durations()) == 5
    assert keeper.records() == (failed,)


def test_methods_that_clients_invent_do_not_take_the_room_of_routes(monkeypatch):
    monkeypatch.setattr(module, "MAX_ROUTES", 5)
    keeper = keeper_of()
    for number in range(20):
        invented = record(route=None)
        invented.method = f"BREW{number}"
        keeper.keep(invented)
    keeper.keep(record(route="/orders"))
    assert {name: one.count for name, one in keeper.durations().items()} == {
        "_OTHER (no route)": 20,
        "GET /orders": 1,
    }


def test_the_quantile_is_looked_at_ever_more_rarely(monkeypatch):
    looks = []
    quantile = Histogram.quantile
    monkeypatch.setattr(Histogram, "quantile", lambda self, q: looks.append(q) or quantile(self, q))
    keeper = keeper_of()
    for _ in range(10_000):
        keeper.keep(record())
    assert 35 <= len(looks) <= 45  # the logarithm of 100 to the base 9/8


def test_what_was_handed_out_does_not_change():
    keeper = keeper_of(sample_rate=1.0)
    keeper.keep(record())
    records, durations = keeper.records(), keeper.durations()
    keeper.keep(record(route="/other"))
    assert (len(records), len(durations)) == (1, 1)
