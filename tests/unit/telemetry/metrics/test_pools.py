"""What is told of pools, and that it is told once."""

from __future__ import annotations

from upshift.record.leak import Leak
from upshift.record.pool_care import PoolTally
from upshift.telemetry.metrics.pools import PoolMetrics
from upshift.telemetry.metrics.registry import Metrics


def values(metrics):
    metrics.refresh()
    return {
        (each.family.removeprefix("db_client_connection_"), *each.labels): each.values[0]
        for each in metrics.series()
    }


def test_limits_are_told_as_they_are_and_counts_as_they_grow():
    tally = PoolTally("shop", limit=8, target=6, most=40, raised=2, lowered=1)
    tallies = [tally]
    metrics = Metrics()
    kept = PoolMetrics(metrics, lambda: tallies, tuple)
    told = values(metrics)
    assert (told["limit", "shop"], told["limit_target", "shop"], told["limit_max", "shop"]) == (8, 6, 40)
    assert (told["limit_resizes", "shop", "up"], told["limit_resizes", "shop", "down"]) == (2, 1)

    tallies[0] = tally._replace(limit=4, raised=5, pings=7, failed_pings=2, recycled=1)
    for _ in range(2):  # telling does not count anew
        told = values(metrics)
    assert told["limit", "shop"] == 4
    assert told["limit_resizes", "shop", "up"] == 5
    assert (told["pings", "shop"], told["failed_pings", "shop"], told["recycled", "shop"]) == (7, 2, 1)
    assert kept


def test_without_sizing_no_limit_is_told():
    metrics = Metrics()
    kept = PoolMetrics(metrics, lambda: [PoolTally("shop")], tuple)
    assert not any(family == "limit" for family, *_ in values(metrics))
    assert kept


def test_leaks_are_added_up_by_pool_and_kind():
    leaks = [
        Leak("shop", "held", None, count=2, open=1, seconds=70.0, routes=()),
        Leak("shop", "held", None, count=3, open=0, seconds=90.0, routes=()),
        Leak("shop", "collected", None, count=1, open=0, seconds=0.1, routes=()),
    ]
    metrics = Metrics()
    kept = PoolMetrics(metrics, tuple, lambda: leaks)
    told = values(metrics)
    assert (told["leaks", "shop", "held"], told["leaks", "shop", "collected"]) == (5, 1)
    assert kept
