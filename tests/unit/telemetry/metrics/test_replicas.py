"""Replicas are told as they are when the metrics are collected, and each failure once."""

from upshift.record import ReplicaState
from upshift.telemetry.metrics.registry import Metrics
from upshift.telemetry.metrics.replicas import MAX_REPLICAS, ReplicaMetrics


def values(metrics: Metrics, family: str) -> dict[str, float]:
    metrics.refresh()
    return {
        each.labels[0]: each.values[0]
        for each in metrics.series()
        if each.family == f"db_client_replica_{family}"
    }


def state(name="db-2", *, is_fit=True, lag=0.5, open_transactions=3, failures=0) -> ReplicaState:
    return ReplicaState(name, is_fit, "", lag, (1, 2), 0.001, open_transactions, failures)


def test_a_replica_is_told_as_it_is():
    metrics, states = Metrics(), [state()]
    ReplicaMetrics(metrics, lambda: states)
    assert values(metrics, "up") == {"db-2": 1.0}
    assert values(metrics, "lag_seconds") == {"db-2": 0.5}
    assert values(metrics, "open_transactions") == {"db-2": 3.0}

    states[:] = [state(is_fit=False, lag=None, open_transactions=0)]
    assert values(metrics, "up") == {"db-2": 0.0}
    assert values(metrics, "open_transactions") == {"db-2": 0.0}


def test_each_failure_is_counted_once():
    metrics, states = Metrics(), [state(failures=2)]
    ReplicaMetrics(metrics, lambda: states)
    assert values(metrics, "failures") == {"db-2": 2.0}
    assert values(metrics, "failures") == {"db-2": 2.0}
    states[:] = [state(failures=3)]
    assert values(metrics, "failures") == {"db-2": 3.0}


def test_many_replicas_share_a_label():
    metrics = Metrics()
    ReplicaMetrics(metrics, lambda: [state(f"db-{number}") for number in range(MAX_REPLICAS + 5)])
    assert len(values(metrics, "up")) <= MAX_REPLICAS + 1
