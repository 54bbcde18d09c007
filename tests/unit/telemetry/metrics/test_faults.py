"""Faults of Upshift's parts are told, each once."""

from upshift.telemetry.metrics.faults import count_faults
from upshift.telemetry.metrics.registry import Metrics


def values(metrics):
    metrics.refresh()
    return {series.labels: series.values[0] for series in metrics.series()}


def test_each_fault_is_told_once_by_part():
    metrics, seen = Metrics(), {"logs": 2, "record": 0}
    count_faults(metrics, {"logs": lambda: seen["logs"], "record": lambda: seen["record"]})
    assert values(metrics) == values(metrics) == {("logs",): 2.0, ("record",): 0.0}
    seen["record"] = 1
    assert values(metrics) == {("logs",): 2.0, ("record",): 1.0}


def test_a_part_that_starts_counting_anew_does_not_make_the_count_fall():
    metrics, seen = Metrics(), [5]
    count_faults(metrics, {"logs": lambda: seen[0]})
    values(metrics)
    seen[0] = 1
    assert values(metrics) == {("logs",): 5.0}
    seen[0] = 2
    assert values(metrics) == {("logs",): 6.0}
