"""Joins the metrics of one process to the totals of all workers of its server."""

from __future__ import annotations

from array import array
from itertools import count
from typing import TYPE_CHECKING
from weakref import finalize

import msgspec

from upshift.telemetry.metrics.exposition import own_values
from upshift.telemetry.sharing.path import numbered
from upshift.telemetry.sharing.totals import Series, SharedTotals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from upshift.telemetry.metrics.registry import Metrics
    from upshift.telemetry.metrics.registry import Series as MetricSeries


class SharedMetrics:
    """The metrics of an application, added up with those of the other workers.

    Where a process has several instances of one name, each has a file of its own: they are numbered in the
    order in which they are made, which is that of the code and so the same in every worker. The number of one
    that is closed, or gone, is free again.

    Args:
        metrics: this process's.
        find: tells the file that the workers share, or None where there is but one process; called by `join`.
            See `upshift.telemetry.sharing.path.find_path`.
        name: what the file is found by: the service's name, or a path that somebody set.

    Attributes:
        totals: what holds the file; None until `join`, and where there is no file.

    Example:
        >>> import tempfile, pathlib
        >>> from upshift.telemetry.metrics.exposition import expose
        >>> from upshift.telemetry.metrics.registry import Metrics
        >>> metrics = Metrics()
        >>> metrics.counter("orders_placed", "Orders placed").add(2)
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     shared = SharedMetrics(metrics, lambda: pathlib.Path(directory, "totals"))
        ...     shared.join()
        ...     print(expose(metrics, totals=shared.sum).body.decode().splitlines()[-1])
        ...     shared.close()
        orders_placed_total 2.0
    """

    def __init__(self, metrics: Metrics, find: Callable[[], Path | None], name: str = "") -> None:
        self.totals: SharedTotals | None = None
        self._metrics = metrics
        self._find = find
        self._number = _take_number(name)
        self._free_number = finalize(self, _taken.pop, (name, self._number), None)
        self._free_number.atexit = False
        self._is_closed = False

    def join(self) -> None:
        """Find the others and add to their totals from now on, once a second.

        To be called in the worker itself, which a server may have forked after it imported the application.
        A worker that was forked after this had been called calls it again, for its gauges to be told.
        """
        if self._is_closed:  # its number, and so its file, may be another's
            return
        if self.totals is None and (path := self._find()) is not None:
            metrics = self._metrics
            self.totals = SharedTotals(
                numbered(path, self._number), lambda: map(_keyed, metrics.series()), metrics.refresh
            )
        if self.totals is not None:
            self.totals.start()

    def sum(self, series: Iterable[MetricSeries]) -> dict[tuple[str, tuple[str, ...]], Sequence[float]]:
        """Return the values of all workers together, by family and labels, as `expose` asks for them.

        Args:
            series: this process's, which stand in where there are no others.
        """
        if self.totals is None:
            return own_values(series)
        summed: dict[tuple[str, tuple[str, ...]], Sequence[float]] = {}
        for key, (_kind, values) in self.totals.totals().items():
            family, *labels = _KEY.decode(key)
            summed[family, tuple(labels)] = values
        return summed

    def close(self) -> None:
        """Add what is new, and leave the others; calling it twice does nothing more."""
        self._is_closed = True
        if self.totals is not None:
            self.totals.close()
        self._free_number()


# The numbers in use, by name. It is the process's, and not an object's, as two Upshifts know nothing of each
# other but that they are in one process. It holds what is alive only, and nobody alive is held by it.
_taken: dict[tuple[str, int], object] = {}


def _take_number(name: str) -> int:
    """Take the first number that is free, without a lock that a fork could leave locked."""
    mine = object()
    return next(number for number in count(1) if _taken.setdefault((name, number), mine) is mine)


# A list of the family and its labels' values has one JSON form, which no text in a label can break.
_KEY: msgspec.json.Decoder[list[str]] = msgspec.json.Decoder(list[str])


def _keyed(series: MetricSeries) -> Series:
    values = series.values
    numbers = values if isinstance(values, array) else array("d", values)
    return Series(msgspec.json.encode((series.family, *series.labels)), series.kind, numbers)
