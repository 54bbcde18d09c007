"""The metrics of caches, jobs and queues, declared in one place so that they are named alike.

The rooms that have such things ask for their families and fill them. What no room asks for is not declared,
so nothing is exposed that nobody fills. OpenTelemetry has no conventions for these; the names follow its
manner and Prometheus' rules: base units, counters in `_total`, one name for one thing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from upshift.telemetry.metrics.registry import DURATION_BUCKETS

if TYPE_CHECKING:
    from upshift.telemetry.metrics.registry import (
        CounterFamily,
        GaugeFamily,
        HistogramFamily,
        LabelBounds,
        Metrics,
    )

MAX_CACHES = 200
MAX_TASKS = 500
MAX_QUEUES = 100
"""Caches, tasks and queues with a label of their own."""

TIERS = ("memory", "redis")
CACHE_OPERATIONS = ("get", "set", "delete", "invalidate")
EVICTIONS = ("size", "expired", "invalidated")
JOB_OUTCOMES = ("success", "retry", "failure", "cancelled")

_FAST = (0.000001, 0.00001, 0.0001, 0.001, *DURATION_BUCKETS)
_LONG = (*DURATION_BUCKETS, 30.0, 60.0, 300.0, 900.0, 3_600.0)


class CacheFamilies(NamedTuple):
    """What caches count; all have the labels `cache_name` and `cache_tier`.

    Attributes:
        hits: look-ups that found a value.
        misses: look-ups that did not.
        evictions: entries removed, by `reason`.
        entries: entries held.
        size: bytes held.
        duration: seconds that operations took, by `cache_operation`.
    """

    hits: CounterFamily
    misses: CounterFamily
    evictions: CounterFamily
    entries: GaugeFamily
    size: GaugeFamily
    duration: HistogramFamily


class JobFamilies(NamedTuple):
    """What background jobs count; all have the labels `queue_name` and `task_name`.

    Attributes:
        enqueued: jobs put into a queue.
        started: runs that began.
        finished: runs that ended, by `outcome`.
        duration: seconds that runs took.
        wait: seconds from the time a job was due until it began.
    """

    enqueued: CounterFamily
    started: CounterFamily
    finished: CounterFamily
    duration: HistogramFamily
    wait: HistogramFamily


class QueueFamilies(NamedTuple):
    """What queues count, of jobs and of requests that wait to be admitted; all have the label `queue_name`.

    Attributes:
        depth: how many wait.
        wait: seconds that each waited.
    """

    depth: GaugeFamily
    wait: HistogramFamily


def declare_cache(metrics: Metrics) -> CacheFamilies:
    """Declare what caches count.

    Example:
        >>> from upshift.telemetry.metrics.registry import Metrics
        >>> declare_cache(Metrics()).hits.add(cache_name="menu", cache_tier="memory")
    """
    labels: LabelBounds = {"cache_name": MAX_CACHES, "cache_tier": TIERS}
    return CacheFamilies(
        hits=metrics.counter("cache_hits", "Look-ups that found a value", labels=labels),
        misses=metrics.counter("cache_misses", "Look-ups that found none", labels=labels),
        evictions=metrics.counter(
            "cache_evictions", "Entries removed from the cache", labels={**labels, "reason": EVICTIONS}
        ),
        entries=metrics.gauge("cache_entries", "Entries that the cache holds", labels=labels),
        size=metrics.gauge("cache_size", "Bytes that the cache holds", unit="bytes", labels=labels),
        duration=metrics.histogram(
            "cache_operation_duration",
            "Time that operations of the cache took",
            labels={**labels, "cache_operation": CACHE_OPERATIONS},
            buckets=_FAST,
        ),
    )


def declare_jobs(metrics: Metrics) -> JobFamilies:
    """Declare what background jobs count."""
    labels: LabelBounds = {"queue_name": MAX_QUEUES, "task_name": MAX_TASKS}
    return JobFamilies(
        enqueued=metrics.counter("jobs_enqueued", "Jobs put into a queue", labels=labels),
        started=metrics.counter("jobs_started", "Runs of jobs that began", labels=labels),
        finished=metrics.counter(
            "jobs_finished", "Runs of jobs that ended", labels={**labels, "outcome": JOB_OUTCOMES}
        ),
        duration=metrics.histogram(
            "job_duration", "Time that runs of jobs took", labels=labels, buckets=_LONG
        ),
        wait=metrics.histogram(
            "job_wait", "Time from when a job was due until it began", labels=labels, buckets=_LONG
        ),
    )


def declare_queues(metrics: Metrics) -> QueueFamilies:
    """Declare what queues count."""
    labels: LabelBounds = {"queue_name": MAX_QUEUES}
    return QueueFamilies(
        depth=metrics.gauge("queue_depth", "How many wait in the queue", labels=labels),
        wait=metrics.histogram("queue_wait", "Time waited in the queue", labels=labels, buckets=_LONG),
    )
