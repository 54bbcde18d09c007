"""Joins the metrics of one process to the totals of all."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from upshift.telemetry.shared import Series, SharedTotals

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from upshift.telemetry.metrics import Metrics
    from upshift.telemetry.metrics import Series as MetricSeries


class SharedMetrics(NamedTuple):
    """The metrics of an application whose workers share a file.

    Attributes:
        totals: what holds the file; to be started, and closed at the end.

    Example:
        >>> import tempfile, pathlib
        >>> from upshift.telemetry.exposition import expose
        >>> from upshift.telemetry.metrics import Metrics
        >>> metrics = Metrics()
        >>> metrics.counter("orders_placed", "Orders placed").add(2)
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     shared = share(metrics, pathlib.Path(directory, "totals"))
        ...     print(expose(metrics, totals=shared.sum).body.decode().splitlines()[-1])
        ...     shared.totals.close()
        orders_placed_total 2.0
    """

    totals: SharedTotals

    def sum(self, _: Iterable[MetricSeries]) -> dict[tuple[str, tuple[str, ...]], list[float]]:
        """Return the values of all workers together, by family and labels, as `expose` asks for them.

        The argument, this process's series, is not needed: the totals read them themselves.
        """
        summed = {}
        for key, (_kind, values) in self.totals.totals().items():
            family, *labels = _KEY.decode(key)
            summed[family, tuple(labels)] = values
        return summed


def share(metrics: Metrics, path: Path) -> SharedMetrics:
    """Share metrics with all processes that use the same file.

    Args:
        metrics: this process's.
        path: see `upshift.telemetry.shared_path.find_path`.
    """
    return SharedMetrics(SharedTotals(path, lambda: map(_keyed, metrics.series())))


# A list of the family and its labels' values has one JSON form, which no text in a label can break.
_KEY: msgspec.json.Decoder[list[str]] = msgspec.json.Decoder(list[str])


def _keyed(series: MetricSeries) -> Series:
    values = series.values
    numbers = values if isinstance(values, array) else array("d", values)
    return Series(msgspec.json.encode((series.family, *series.labels)), series.kind, numbers)
