"""The metrics of a database's replicas, read from what is known of them when they are collected."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from upshift.record.replica import ReplicaState
    from upshift.telemetry.metrics.registry import LabelBounds, Metrics

MAX_REPLICAS = 50
"""Replicas with a label of their own."""


class ReplicaMetrics:
    """Tells of the replicas that sessions read from.

    Args:
        metrics: where the families are declared.
        states: tells what is known of each replica now.

    Example:
        >>> from upshift.record.replica import ReplicaState
        >>> from upshift.telemetry.metrics.registry import Metrics
        >>> metrics = Metrics()
        >>> state = ReplicaState("db-2", False, "it does not answer", None, None, 0.002, 0, 1)
        >>> replicas = ReplicaMetrics(metrics, lambda: [state])
        >>> up = metrics.families()[0]
        >>> up.name, up.snapshot()[0][1].values[0]
        ('db_client_replica_up', 0.0)
    """

    def __init__(self, metrics: Metrics, states: Callable[[], Iterable[ReplicaState]]) -> None:
        self._states = states
        self._failures_told: dict[str, int] = {}
        replica: LabelBounds = {"db_client_replica_name": MAX_REPLICAS}
        self._up = metrics.gauge(
            "db_client_replica_up",
            "Whether the replica is read from: 1 or 0",
            labels=replica,
            own=True,
        )
        self._lag = metrics.gauge(
            "db_client_replica_lag",
            "How far the replica is behind the primary at most; told while it is known",
            unit="seconds",
            labels=replica,
            own=True,
        )
        self._open = metrics.gauge(
            "db_client_replica_open_transactions",
            "Transactions that read from the replica now",
            labels=replica,
            own=True,
        )
        self._failures = metrics.counter(
            "db_client_replica_failures",
            "How often the replica was found not fit to be read from",
            labels=replica,
            own=True,
        )
        metrics.before_collecting(self._read)

    def _read(self) -> None:
        for state in self._states():
            labels = (state.name,)
            self._up.at(labels).set(float(state.is_fit))
            self._open.at(labels).set(state.open_transactions)
            if state.lag_seconds is not None:
                self._lag.at(labels).set(state.lag_seconds)
            new = state.failures - self._failures_told.get(state.name, 0)
            if new > 0:
                self._failures.at(labels).add(new)
                self._failures_told[state.name] = state.failures
