"""The metrics of connection pools and transactions."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading

import pytest

from upshift.record import Record
from upshift.record.pool import Checkout, PoolState
from upshift.telemetry.metrics.database import SIZE, DatabaseMetrics
from upshift.telemetry.metrics.exposition import expose
from upshift.telemetry.metrics.registry import Metrics


@pytest.fixture
def metrics():
    return Metrics()


@pytest.fixture
def states():
    return [PoolState("shop", used=2, idle=3, maximum=15, pending=1)]


@pytest.fixture
def database(metrics, states):
    return DatabaseMetrics(metrics, lambda: states, lambda record: record.route)


def checkout_of(record=None, pool="shop", waited=0.5, used=2.0):
    checkout = Checkout(pool, record, 10.0)
    checkout.obtained = 10.0 + waited
    checkout.returned = checkout.obtained + used
    return checkout


def record_of(route="/orders/{id}"):
    record = Record("GET", "/orders/7", 0.0)
    record.route = route
    return record


def series_of(metrics, name):
    metrics.families()
    return {each.labels: list(each.values) for each in metrics.series() if each.family == name}


def test_a_use_of_a_connection_is_counted_with_its_wait(metrics, database):
    database.connection_returned(checkout_of())
    (waited,) = series_of(metrics, "db_client_connection_wait_time_seconds").values()
    (used,) = series_of(metrics, "db_client_connection_use_time_seconds").values()
    assert (waited[-1], used[-1]) == (0.5, 2.0)
    assert sum(waited[:-1]) == sum(used[:-1]) == 1


def test_the_route_that_held_a_connection_idle_is_named(metrics, database):
    database.connection_returned(checkout_of(record_of()))
    database.connection_returned(checkout_of(record_of(None), used=1.0))
    idle = series_of(metrics, "db_client_connection_idle_in_use_seconds")
    assert {labels: values[-1] for labels, values in idle.items()} == {
        ("shop", "/orders/{id}"): 2.0,
        ("shop", ""): 1.0,
    }


def test_outside_of_requests_no_idle_time_is_told(metrics, database):
    database.connection_returned(checkout_of())
    assert series_of(metrics, "db_client_connection_idle_in_use_seconds") == {}


def test_transactions_are_counted_by_outcome(metrics, database):
    for outcome in ("commit", "commit", "rollback", "close", "error"):
        database.transaction_ended("shop", outcome, 0.25)
    totals = series_of(metrics, "db_client_transactions")
    assert {labels[1]: values[0] for labels, values in totals.items()} == {
        "commit": 2,
        "rollback": 1,
        "close": 1,
        "error": 1,
    }
    (seconds,) = series_of(metrics, "db_client_transaction_duration_seconds").values()
    assert seconds[-1] == 1.25


def test_a_transaction_that_nobody_ended_is_an_error(metrics, database):
    checkout = checkout_of()
    checkout.began = checkout.returned - 0.5
    database.connection_returned(checkout)
    assert series_of(metrics, "db_client_transactions")["shop", "error"] == [1]
    assert series_of(metrics, "db_client_transaction_duration_seconds")[("shop",)][-1] == 0.5


def test_opened_connections_and_timeouts_are_counted_at_once(metrics, database):
    database.connection_created("shop", 0.125)
    database.connection_timed_out("shop")
    assert series_of(metrics, "db_client_connection_create_time_seconds")[("shop",)][-1] == 0.125
    assert series_of(metrics, "db_client_connection_timeouts") == {("shop",): [1.0]}


def test_the_state_of_pools_is_read_when_metrics_are(metrics, database, states):
    assert series_of(metrics, "db_client_connections") == {("shop", "used"): [2.0], ("shop", "idle"): [3.0]}
    assert series_of(metrics, "db_client_connection_max") == {("shop",): [15.0]}
    states[:] = [PoolState("shop", used=4, idle=1, maximum=15, pending=0)]
    assert series_of(metrics, "db_client_connections")["shop", "used"] == [4.0]
    assert series_of(metrics, "db_client_connection_pending_requests") == {("shop",): [0.0]}


def test_what_a_pool_does_not_tell_is_not_exposed(metrics, database, states):
    states[:] = [PoolState("shop", used=1, idle=None, maximum=None, pending=0)]
    assert series_of(metrics, "db_client_connections") == {("shop", "used"): [1.0]}
    assert series_of(metrics, "db_client_connection_max") == {}


def test_some_wait_for_others_and_never_more_than_that(metrics, database):
    name = "db_client_connection_use_time_seconds"

    def counted():
        return sum(sum(each.values[:-1]) for each in metrics.series() if each.family == name)

    for number in range(1, 3 * SIZE):
        database.connection_returned(checkout_of())
        assert counted() == number // SIZE * SIZE


def test_many_threads_lose_nothing(metrics, database):
    def work():
        for _ in range(500):
            database.connection_returned(checkout_of(record_of()))
            database.transaction_ended("shop", "commit", 0.1)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (used,) = series_of(metrics, "db_client_connection_use_time_seconds").values()
    assert sum(used[:-1]) == 4_000
    assert series_of(metrics, "db_client_transactions")["shop", "commit"] == [4_000]


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_does_not_count_what_waited_in_its_parent(metrics, database):
    database.connection_returned(checkout_of())
    with database._lock:  # as if another thread were counting
        child = os.fork()
        if child == 0:
            database.drain()
            database.connection_returned(checkout_of())
            (used,) = series_of(metrics, "db_client_connection_use_time_seconds").values()
            os._exit(int(sum(used[:-1])))
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 1


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_prometheus_has_nothing_to_say_against_them(metrics, database):
    database.connection_returned(checkout_of(record_of()))
    database.transaction_ended("shop", "commit", 0.25)
    database.connection_created("shop", 0.1)
    database.connection_timed_out("shop")
    page = expose(metrics).body
    checked = subprocess.run(["promtool", "check", "metrics"], input=page, capture_output=True, check=False)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")
