"""Which records of requests that are over are kept and taken, and that what is kept is bounded."""

from __future__ import annotations

import os
from threading import Thread

import pytest

from upshift.record import Closing, CountedSeries, Histogram, Keeper, Record, Statement, closing
from upshift.record import keeper as module
from upshift.record.closing import SETTLING
from upshift.record.keeper import LEARNING
from upshift.settings import RecordSettings


def record(path="/", seconds=0.01, *, route="/", status=200, error=None):
    made = Record("GET", path, 0.0)
    made.route = route
    made.seconds = seconds
    made.status = status
    made.error = error
    return made


class Kept:
    """A keeper, and what hands it the records."""

    def __init__(self, *, ring_size=512, sample_rate=0.0, **arguments):
        self._keeper = Keeper(RecordSettings(ring_size=ring_size, sample_rate=sample_rate))
        self.closing = Closing(self._keeper, **arguments)
        self.close, self.drain = self.closing.close, self.closing.drain

    def records(self):
        return self._keeper.records()

    def durations(self):
        self.drain()
        return self._keeper.durations()


def learned(keeper, route="/", seconds=0.01):
    for _ in range(LEARNING):
        keeper.close(record(seconds=seconds, route=route))
    for _ in range(2 * SETTLING - LEARNING):  # until what was learned is looked at
        keeper.close(record(seconds=seconds, route=route))
    return keeper


def test_ordinary_records_are_not_kept_without_sampling():
    assert learned(Kept()).records() == ()


def test_all_records_are_kept_when_all_are_sampled():
    assert len(learned(Kept(sample_rate=1.0)).records()) == 2 * SETTLING


def test_a_share_of_ordinary_records_is_kept(monkeypatch):
    draws = iter([0.04, 0.05, 0.5, 0.0, 0.99])
    monkeypatch.setattr(closing, "random", lambda: next(draws))
    keeper = Kept(sample_rate=0.05)
    for number in range(5):
        keeper.close(record(f"/{number}"))
    assert [kept.path for kept in keeper.records()] == ["/0", "/3"]


@pytest.mark.parametrize(
    "failed",
    [record(status=500), record(status=503), record(error="KeyError"), record(status=200, error="KeyError")],
)
def test_a_failed_record_is_kept(failed):
    keeper = Kept()
    keeper.close(failed)
    assert keeper.records() == (failed,)


@pytest.mark.parametrize("status", [200, 301, 404, 429, 499])
def test_what_the_client_did_wrong_is_no_failure(status):
    keeper = Kept()
    keeper.close(record(status=status))
    assert keeper.records() == ()


def test_a_slow_record_is_kept_once_the_route_is_known():
    keeper = learned(Kept())
    slow = record(seconds=1.0)
    keeper.close(slow)
    assert keeper.records() == (slow,)


def test_nothing_is_slow_while_the_route_is_not_known():
    keeper = Kept()
    for seconds in (0.01, 5.0):
        keeper.close(record(seconds=seconds))
    assert keeper.records() == ()


def test_slow_is_slow_for_its_route():
    keeper = learned(learned(Kept(), "/fast", 0.001), "/slow", 1.0)
    fast, slow = record(route="/fast", seconds=0.5), record(route="/slow", seconds=0.5)
    keeper.close(fast)
    keeper.close(slow)
    assert keeper.records() == (fast,)


def test_what_is_slow_is_learned_anew():
    keeper = learned(learned(Kept()), seconds=1.0)
    before = keeper.records()
    keeper.close(record(seconds=0.5))
    assert before
    assert keeper.records() == before


def test_the_ring_keeps_the_latest_and_gives_the_oldest_first():
    keeper = Kept(ring_size=3, sample_rate=1.0)
    for number in range(10):
        keeper.close(record(f"/{number}"))
    assert [kept.path for kept in keeper.records()] == ["/7", "/8", "/9"]


def test_every_request_counts_in_its_routes_distribution_kept_or_not():
    keeper = Kept()
    for seconds in (0.25, 0.5):
        keeper.close(record(seconds=seconds, route="/orders/{order_id}"))
    keeper.close(record(seconds=1.0, route=None))
    durations = keeper.durations()
    assert {name: (one.count, one.sum) for name, one in durations.items()} == {
        "GET /orders/{order_id}": (2, 0.75),
        "GET (no route)": (1, 1.0),
    }


def test_the_number_of_routes_is_bounded_and_failures_of_further_ones_are_kept(monkeypatch):
    monkeypatch.setattr(module, "MAX_ROUTES", 5)
    keeper = Kept()
    for number in range(20):
        keeper.close(record(route=f"/{number}"))
    failed = record(route="/19", status=500)
    keeper.close(failed)
    assert len(keeper.durations()) == 5
    assert keeper.records() == (failed,)


def test_methods_that_clients_invent_do_not_take_the_room_of_routes(monkeypatch):
    monkeypatch.setattr(module, "MAX_ROUTES", 5)
    keeper = Kept()
    for number in range(20):
        invented = record(route=None)
        invented.method = f"BREW{number}"
        keeper.close(invented)
    keeper.close(record(route="/orders"))
    assert {name: one.count for name, one in keeper.durations().items()} == {
        "_OTHER (no route)": 20,
        "GET /orders": 1,
    }


def test_the_quantile_is_looked_at_ever_more_rarely(monkeypatch):
    looks = []
    quantile = Histogram.quantile
    monkeypatch.setattr(Histogram, "quantile", lambda self, q: looks.append(q) or quantile(self, q))
    keeper = Kept()
    for _ in range(10_000):
        keeper.close(record())
    keeper.drain()
    assert 20 <= len(looks) <= 45  # at most the logarithm of 100 to the base 9/8


def test_what_was_handed_out_does_not_change():
    keeper = Kept(sample_rate=1.0)
    keeper.close(record())
    records, durations = keeper.records(), keeper.durations()
    keeper.close(record(route="/other"))
    assert (len(records), len(durations)) == (1, 1)


def test_what_is_slow_by_any_standard_is_kept_though_its_route_is_not_known():
    keeper = Kept(slow_request_seconds=1.0)
    slow = record(seconds=1.0)
    keeper.close(record(seconds=0.999))
    keeper.close(slow)
    assert keeper.records() == (slow,)


def some_statement():
    return [Statement("SELECT 1", 0.0)]


@pytest.mark.parametrize(
    ("facts", "is_taken"),
    [
        ({}, False),
        ({"statements": some_statement()}, True),
        ({"is_streamed": True}, True),
        ({"is_sampled": True}, True),
        ({"is_sampled": False}, False),
        ({"status": 500}, True),
        ({"error": "KeyError"}, True),
        ({"seconds": 2.0}, True),
    ],
)
def test_the_takers_get_what_is_out_of_the_ordinary(facts, is_taken):
    taken = []
    keeper = Kept(takers=[taken.append], slow_request_seconds=1.0)
    one = record()
    for name, value in facts.items():
        setattr(one, name, value)
    keeper.close(one)
    keeper.drain()
    assert taken == ([one] if is_taken else [])


@pytest.mark.parametrize(
    ("arguments", "is_compared"),
    [
        ({"sample_rate": 0.0}, False),
        ({"sample_rate": 1.0}, True),
        ({"takes_all": True}, False),
        ({"completes_all": True}, True),
    ],
)
def test_parameters_are_compared_where_somebody_may_ask_and_let_go_of_anyway(arguments, is_compared):
    taken = []
    keeper = Kept(takers=[taken.append], **arguments)
    one = record()
    one.statements = some_statement() + some_statement()
    for statement in one.statements:
        statement.bound = (7,)
    keeper.close(one)
    keeper.drain()
    assert taken == [one]
    assert [each.bound for each in one.statements] == [None, None]
    assert all((each.fingerprint is not None) == is_compared for each in one.statements)


@pytest.mark.parametrize("wanted", ["takes_all", "completes_all"])
def test_the_takers_get_every_record_where_they_want_all(wanted):
    taken = []
    keeper = Kept(takers=[taken.append], **{wanted: True})
    keeper.close(record())
    keeper.drain()
    assert len(taken) == 1


class Added(list):
    """A series that keeps what was added."""

    observe_all = list.extend


def counting():
    """A keeper whose requests are counted, and the series of each kind."""
    counted = {}

    def series_of(kind):
        return counted.setdefault(kind, CountedSeries(*(Added() for _ in range(4))))

    return Kept(counted=series_of), counted


def test_the_numbers_of_each_kind_are_counted_apart():
    keeper, counted = counting()
    for number, status in enumerate((200, 404, 200)):
        one = record(seconds=number / 8, status=status)
        one.request_bytes, one.response_bytes, one.statements_dropped = number, 10 * number, 100 * number
        keeper.close(one)
    keeper.drain()
    assert counted == {
        ("GET", "/", 200, None): ([0.0, 0.25], [0, 2], [0, 20], [0, 200]),
        ("GET", "/", 404, None): ([0.125], [1], [10], [100]),
    }


def test_numbers_are_added_some_dozens_at_a_time():
    keeper, counted = counting()
    for _ in range(SETTLING - 1):
        keeper.close(record())
    (series,) = counted.values()
    assert [len(each) for each in series] == [0] * 4
    keeper.close(record())
    assert [len(each) for each in series] == [SETTLING] * 4


def test_a_signal_that_closes_a_request_while_its_thread_counts_others_does_not_wait_for_ever():
    keeper, counted = counting()
    with keeper.closing._settling:
        for _ in range(SETTLING + 1):
            keeper.close(record())
    keeper.close(record())
    (series,) = counted.values()
    assert [len(each) for each in series] == [SETTLING + 2] * 4


def test_nothing_holds_on_to_the_scope_of_a_request_that_nobody_takes():
    one = record()
    one.scope = {"type": "http"}
    learned(Kept()).close(one)
    assert one.scope is None


def test_kinds_beyond_the_bound_are_counted_without_route_and_error(monkeypatch):
    monkeypatch.setattr(closing, "MAX_KINDS", 3)
    keeper, counted = counting()
    for number in range(10):
        keeper.close(record(route=f"/{number}", error=f"Error{number}"))
    keeper.drain()
    assert [(kind, len(series.seconds)) for kind, series in counted.items()][3:] == [
        (("_OTHER", None, 500, None), 7)
    ]


def test_errors_beyond_the_bound_share_one_kind(monkeypatch):
    monkeypatch.setattr(closing, "MAX_ERRORS", 3)
    keeper, counted = counting()
    for number in range(10):
        keeper.close(record(error=f"Error{number}"))
    keeper.drain()
    assert [(kind.error, len(series.seconds)) for kind, series in counted.items()] == [
        ("Error0", 1),
        ("Error1", 1),
        ("Error2", 1),
        ("_OTHER", 7),
    ]


def test_a_client_that_went_away_is_no_failure():
    keeper = Kept()
    keeper.close(record(error="IncompleteResponse"))
    keeper.close(record(error="ClientDisconnect"))
    assert keeper.records() == ()


def test_a_forked_child_counts_nothing_of_its_parent_s():
    keeper = Kept()
    keeper.close(record())
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        os.write(writing, repr(keeper.durations()["GET /"].count).encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reading, 100) == b"0"
    os.close(reading)
    os.close(writing)
    assert keeper.durations()["GET /"].count == 1


def test_threads_lose_and_double_nothing():
    keeper, counted = counting()

    def close():
        for number in range(2_000):
            keeper.close(record())
            if number % 97 == 0:
                keeper.durations()

    threads = [Thread(target=close) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert keeper.durations()["GET /"].count == 8_000
    assert [len(each) for series in counted.values() for each in series] == [8_000] * 4
