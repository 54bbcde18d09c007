"""The metrics as Prometheus reads them: its text format, or OpenMetrics with exemplars when it asks for that.

The writing is `prometheus_client`'s. It takes some tens of milliseconds for some hundred histograms, so it is
done in a thread; nothing of it is on a request's way.
"""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

from prometheus_client.core import Exemplar, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.utils import floatToGoString

from upshift.telemetry.metrics.registry import HistogramFamily

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from upshift.telemetry.metrics.registry import AnyFamily, Metrics, Series
    from upshift.telemetry.metrics.registry import Exemplar as Observed

    Labels = dict[str, str]
    Totals = Callable[[Iterable[Series]], dict[tuple[str, tuple[str, ...]], Sequence[float]]]


class Exposition(NamedTuple):
    """An answer to a scrape.

    Attributes:
        content_type: its media type with version and character set.
        body: its bytes.
    """

    content_type: str
    body: bytes


def expose(
    metrics: Metrics,
    accept: str = "",
    totals: Totals | None = None,
) -> Exposition:
    """Write all metrics in the format that the scraper prefers.

    Args:
        metrics: what to write.
        accept: the request's Accept header; OpenMetrics is written to who names it.
        totals: given this process's series, returns the values of all workers together, by family and labels.

    Example:
        >>> from upshift.telemetry.metrics.registry import Metrics
        >>> metrics = Metrics()
        >>> metrics.counter("orders_placed", "Orders placed").add(2)
        >>> print(expose(metrics).body.decode(), end="")
        # HELP orders_placed_total Orders placed
        # TYPE orders_placed_total counter
        orders_placed_total 2.0
    """
    families = {
        family.name: (family, Metric(family.name, family.help, family.kind, family.unit))
        for family in metrics.families()
    }
    for (name, labels), values in (totals or own_values)(metrics.series()).items():
        # Another worker may run other code: what this one has not declared like that, it cannot tell.
        if (found := families.get(name)) and _is_of(found[0], labels, values):
            _add_series(*found, labels, values)
    written = _Written([metric for _, metric in families.values()])
    if "application/openmetrics-text" in accept:
        content_type = openmetrics.CONTENT_TYPE_LATEST
        return Exposition(content_type, openmetrics.generate_latest(written))  # type: ignore[no-untyped-call] # prometheus_client's
    return Exposition(CONTENT_TYPE_PLAIN_0_0_4, generate_latest(written))


def own_values(series: Iterable[Series]) -> dict[tuple[str, tuple[str, ...]], Sequence[float]]:
    """Return the values of one process's series, by family and labels."""
    return {(each.family, each.labels): each.values for each in series}


class _Written:
    """What `prometheus_client` takes for a registry."""

    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        return iter(self._metrics)


def _is_of(family: AnyFamily, label_values: tuple[str, ...], numbers: Sequence[float]) -> bool:
    expected = len(family.declared.buckets) + 2 if family.kind == "histogram" else 1
    return len(label_values) == len(family.labels) and len(numbers) == expected


def _add_series(
    family: AnyFamily, metric: Metric, label_values: tuple[str, ...], numbers: Sequence[float]
) -> None:
    # An empty value is no label at all, to Prometheus.
    labels = {label: value for label, value in zip(family.labels, label_values, strict=True) if value}
    if family.kind == "counter":
        metric.add_sample(f"{family.name}_total", labels, numbers[0])
    elif isinstance(family, HistogramFamily):
        series = family.series.get(label_values)
        exemplars = series.exemplars if series else [None] * (len(numbers) - 1)
        _add_histogram(metric, labels, numbers, family.declared.buckets, exemplars)
    else:
        metric.add_sample(family.name, labels, numbers[0])


def _add_histogram(
    metric: Metric,
    labels: Labels,
    numbers: Sequence[float],
    bounds: tuple[float, ...],
    exemplars: Sequence[Observed | None],
) -> None:
    *counts, total = numbers
    names = [*map(floatToGoString, bounds), "+Inf"]
    seen = 0.0
    for name, seen, exemplar in zip(names, accumulate(counts), exemplars, strict=True):
        shown = exemplar and Exemplar({"trace_id": exemplar.trace_id}, exemplar.value, exemplar.at)
        metric.add_sample(f"{metric.name}_bucket", {**labels, "le": name}, seen, exemplar=shown)
    metric.add_sample(f"{metric.name}_count", labels, seen)
    metric.add_sample(f"{metric.name}_sum", labels, total)
