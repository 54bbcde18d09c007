"""Counts what went wrong in Upshift itself, and what it had no room for; no request is touched by either."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING

from upshift.record.fork import after_fork
from upshift.telemetry.metrics.registry import HistogramFamily

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from upshift.telemetry.metrics.registry import AnyFamily, Metrics


def count_faults(metrics: Metrics, faults: Mapping[str, Callable[[], int]]) -> None:
    """Tell the faults of Upshift's parts as `upshift_faults_total`; an alert on it costs nothing.

    Each part counts its own, and logs the first.

    Args:
        metrics: where the family is declared.
        faults: for each part, what tells how many it has had.

    Example:
        >>> from upshift.telemetry.metrics.registry import Metrics
        >>> metrics = Metrics()
        >>> count_faults(metrics, {"logs": lambda: 3})
        >>> metrics.refresh()
        >>> [(series.labels, series.values[0]) for series in metrics.series()]
        [(('logs',), 3.0)]
    """
    _Tally(metrics, "upshift_faults", "Faults of Upshift's own parts, none of which a request saw", faults)


def count_dropped(metrics: Metrics, dropped: Mapping[str, Callable[[], int]]) -> None:
    """Tell as `upshift_dropped_total` what Upshift's parts gave up to stay within their bounds.

    The metrics' own are told as well: as `labels` the observations that were counted under `_OTHER`, and as
    `observations` those that were no finite numbers.

    Args:
        metrics: where the family is declared.
        dropped: for each part, what tells how much it has dropped: log lines, spans, series.

    Example:
        >>> from upshift.telemetry.metrics.registry import Metrics
        >>> metrics = Metrics()
        >>> metrics.histogram("wait", "Waits").observe(float("nan"))
        >>> count_dropped(metrics, {"logs": lambda: 3})
        >>> metrics.refresh()
        >>> {each.labels: each.values[0] for each in metrics.series() if each.kind == "counter"}
        {('logs',): 3.0, ('labels',): 0.0, ('observations',): 1.0}
    """
    own = {"labels": lambda: _refused(metrics), "observations": lambda: _rejected(metrics)}
    text = "Log lines, spans, series, labels and observations that Upshift's own parts had no room or use for"
    _Tally(metrics, "upshift_dropped", text, {**dropped, **own})


class _Tally:
    """A counter that follows what parts count themselves; the metrics hold it by what it has them call."""

    def __init__(
        self, metrics: Metrics, name: str, text: str, counts: Mapping[str, Callable[[], int]]
    ) -> None:
        self._family = metrics.counter(name, text, labels={"part": counts}, own=True)
        self._counts = counts
        self._told = dict.fromkeys(counts, 0)
        self._lock = Lock()
        after_fork(self._forget)
        metrics.before_collecting(self._refresh)

    def _refresh(self) -> None:
        with self._lock:  # scrapes and flushes come from several threads
            for part, count in self._counts.items():
                now = count()
                self._family.at((part,)).add(max(0, now - self._told[part]))
                self._told[part] = now

    def _forget(self) -> None:
        """In a forked child: what was counted before is the parent's, and so is who may hold the lock."""
        self._lock = Lock()
        self._told = {part: count() for part, count in self._counts.items()}


def _families(metrics: Metrics) -> Iterator[AnyFamily]:
    # `families()` refreshes, which is what this is called by.
    yield from tuple(metrics._families.values())


def _refused(metrics: Metrics) -> int:
    return sum(family.refused for family in _families(metrics))


def _rejected(metrics: Metrics) -> int:
    return sum(
        series.rejected
        for family in _families(metrics)
        if isinstance(family, HistogramFamily)
        for _, series in family.snapshot()
    )
