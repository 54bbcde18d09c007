"""Counts what went wrong in Upshift itself, where no request is touched by it."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from upshift.telemetry.metrics.registry import Metrics


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
    family = metrics.counter(
        "upshift_faults",
        "Faults of Upshift's own parts, none of which a request saw",
        labels={"part": faults},
    )
    told = dict.fromkeys(faults, 0)
    lock = Lock()

    def refresh() -> None:
        with lock:  # scrapes and flushes come from several threads
            for part, count in faults.items():
                now = count()
                family.at((part,)).add(max(0, now - told[part]))
                told[part] = now

    metrics.before_collecting(refresh)
