"""Faults of Upshift's parts, and what they dropped, are told, each once."""

import os
import signal
from contextlib import suppress
from threading import Event, Thread, current_thread, main_thread

import pytest

from upshift.telemetry.metrics.faults import count_dropped, count_faults
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


def test_what_was_dropped_is_told_with_what_the_metrics_themselves_refused():
    metrics = Metrics()
    metrics.counter("orders", "Orders", labels={"channel": ("web",)}).add(1, channel="fax")
    metrics.histogram("wait", "Waits").observe(float("inf"))
    count_dropped(metrics, {"logs": lambda: 4})
    for _ in range(2):
        metrics.refresh()
    told = {each.labels: each.values[0] for each in metrics.series() if each.family == "upshift_dropped"}
    assert told == {("logs",): 4.0, ("labels",): 1.0, ("observations",): 1.0}


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_child_forked_while_faults_are_told_tells_its_own_only():
    metrics, seen, reading, done = Metrics(), [5], Event(), Event()

    def count():
        reading.set()
        if current_thread() is not main_thread():
            done.wait(20)
        return seen[0]

    count_faults(metrics, {"logs": count})
    thread = Thread(target=metrics.refresh)  # has the lock from here on
    thread.start()
    assert reading.wait(20)
    if (child := os.fork()) == 0:
        with suppress(BaseException):
            signal.alarm(30)
            seen[0] += 2
            os._exit(int(values(metrics)["logs",]))
        os._exit(99)
    done.set()
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 2
    assert values(metrics) == {("logs",): 5.0}
