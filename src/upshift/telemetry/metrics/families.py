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
"""Caches and write-behinds, tasks and queues with a label of their own."""

MAX_REASONS = 50
"""Reasons for not keeping a value with a label of their own."""

JOB_OUTCOMES = ("success", "retry", "failure", "cancelled")

_LONG = (*DURATION_BUCKETS, 30.0, 60.0, 300.0, 900.0, 3_600.0)


class CacheFamilies(NamedTuple):
    """What caches count; all have the label `cache_name`, the namespace: a function's name, or a path.

    Attributes:
        hits: calls that were answered from the cache.
        misses: calls that found nothing there.
        joined: calls that shared another's load.
        bypassed: calls past the cache, of those who had written what the value depends on.
        fills: values kept.
        refused: values not kept, by `reason`.
        stale_prevented: values found and not served, as what they depend on had been written.
        expired: values found and not served, as their time was up.
        evictions: values that made room for others.
        refreshed: values loaded anew in the background.
        errors: loads that failed.
        stale_served_on_error: last values that were served where a load failed.
        audited: hits that were compared with a new run.
        stale_served: those that had served what was not right any more.
        not_modified: hits that were answered by 304.
        loads: loads.
        load_seconds: seconds that they took.
        entries: values held in memory.
        size: bytes held in memory.
    """

    hits: CounterFamily
    misses: CounterFamily
    joined: CounterFamily
    bypassed: CounterFamily
    fills: CounterFamily
    refused: CounterFamily
    stale_prevented: CounterFamily
    expired: CounterFamily
    evictions: CounterFamily
    refreshed: CounterFamily
    errors: CounterFamily
    stale_served_on_error: CounterFamily
    audited: CounterFamily
    stale_served: CounterFamily
    not_modified: CounterFamily
    loads: CounterFamily
    load_seconds: CounterFamily
    entries: GaugeFamily
    size: GaugeFamily


class CacheRedisFamilies(NamedTuple):
    """What is known of the Redis of a cache, without labels.

    Attributes:
        away: processes that do not ask it, as it failed.
        openings: how often failures have made them stop.
        malformed: values found there that could not be read.
    """

    away: GaugeFamily
    openings: CounterFamily
    malformed: CounterFamily


class WriteBehindFamilies(NamedTuple):
    """What write-behinds count; all have the label `write_behind_name`.

    Attributes:
        flushed: writes that are in the database.
        failures: flushes that failed, and were tried again.
        given_up: writes that are dead letters.
        entries: writes that wait.
        size: bytes that they take, about.
        oldest: seconds that the first of them has waited.
    """

    flushed: CounterFamily
    failures: CounterFamily
    given_up: CounterFamily
    entries: GaugeFamily
    size: GaugeFamily
    oldest: GaugeFamily


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
        >>> declare_cache(Metrics()).hits.add(cache_name="menu")
    """
    labels: LabelBounds = {"cache_name": MAX_CACHES}

    def counter(name: str, text: str, **more: int) -> CounterFamily:
        return metrics.counter(f"upshift_cache_{name}", text, labels={**labels, **more}, own=True)

    return CacheFamilies(
        hits=counter("hits", "Calls that were answered from the cache"),
        misses=counter("misses", "Calls that found nothing in the cache"),
        joined=counter("joined", "Calls that shared the load of another"),
        bypassed=counter("bypassed", "Calls past the cache, of those who had written what the value needs"),
        fills=counter("fills", "Values kept"),
        refused=counter("refused", "Values not kept", reason=MAX_REASONS),
        stale_prevented=counter("stale_prevented", "Values found and not served, as they had been outdated"),
        expired=counter("expired", "Values found and not served, as their time was up"),
        evictions=counter("evictions", "Values that made room for others"),
        refreshed=counter("refreshed", "Values loaded anew in the background"),
        errors=counter("errors", "Loads that failed"),
        stale_served_on_error=counter("stale_served_on_error", "Last values served as a load had failed"),
        audited=counter("audited", "Hits that were compared with a new run of the function"),
        stale_served=counter("stale_served", "Compared hits that had served what was not right any more"),
        not_modified=counter("not_modified", "Hits that were answered by 304"),
        loads=counter("loads", "Loads"),
        load_seconds=metrics.counter(
            "upshift_cache_load", "Time that loads took", unit="seconds", labels=labels, own=True
        ),
        entries=metrics.gauge(
            "upshift_cache_entries", "Values that are held in memory", labels=labels, own=True
        ),
        size=metrics.gauge(
            "upshift_cache_size", "Bytes that are held in memory", unit="bytes", labels=labels, own=True
        ),
    )


def declare_cache_redis(metrics: Metrics) -> CacheRedisFamilies:
    """Declare what is known of the Redis of a cache."""
    return CacheRedisFamilies(
        away=metrics.gauge(
            "upshift_cache_redis_away", "Processes that do not ask the cache's Redis, as it failed", own=True
        ),
        openings=metrics.counter(
            "upshift_cache_redis_openings", "Times when failures made a process stop asking Redis", own=True
        ),
        malformed=metrics.counter(
            "upshift_cache_redis_malformed", "Values found in Redis that could not be read", own=True
        ),
    )


def declare_write_behind(metrics: Metrics) -> WriteBehindFamilies:
    """Declare what write-behinds count.

    Example:
        >>> from upshift.telemetry.metrics.registry import Metrics
        >>> declare_write_behind(Metrics()).flushed.add(500, write_behind_name="stock")
    """
    labels: LabelBounds = {"write_behind_name": MAX_CACHES}

    def counter(name: str, text: str) -> CounterFamily:
        return metrics.counter(f"upshift_cache_writes_{name}", text, labels=labels, own=True)

    def gauge(name: str, text: str, unit: str = "") -> GaugeFamily:
        return metrics.gauge(f"upshift_cache_writes_{name}", text, unit=unit, labels=labels, own=True)

    return WriteBehindFamilies(
        flushed=counter("flushed", "Writes that were flushed to the database"),
        failures=counter("failures", "Flushes that failed, and were tried again"),
        given_up=counter("given_up", "Writes that were given up, and are dead letters"),
        entries=gauge("pending", "Writes that wait to be flushed"),
        size=gauge("pending_size", "Bytes that the writes that wait take", "bytes"),
        oldest=gauge("oldest", "How long the first write that waits has waited", "seconds"),
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
