"""Metrics: counters, gauges and histograms, declared once, with labels whose values are bounded.

A family is declared with its help and unit; each combination of its labels' values is a series. What is on a
request's way holds on to a series and adds to it. Nothing here depends on Prometheus;
`upshift.telemetry.metrics.exposition` reads the families.

The memory is fixed by the declarations: a label takes either the values that it was declared with, or the
first so many that come; every further one is counted as `_OTHER`.

Names follow the Prometheus form of OpenTelemetry's semantic conventions: snake case, the unit as a suffix.
"""

from __future__ import annotations

import logging
import math
import re
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping
from enum import Enum
from itertools import pairwise
from threading import Lock
from time import time
from typing import TYPE_CHECKING, Generic, Literal, NamedTuple, TypeVar, cast

from upshift.record.fork import after_fork

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Kind = Literal["counter", "gauge", "histogram"]

OTHER = "_OTHER"
"""The value that a label has in place of one beyond its bound, as in OpenTelemetry's conventions."""

DURATION_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
"""Upper bounds in seconds that OpenTelemetry's conventions advise for the durations of requests."""

SIZE_BUCKETS = (0.0, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8)
"""Upper bounds in bytes."""

MAX_LABEL_LENGTH = 200
"""Characters of a label's value; what is longer is cut."""

MAX_SERIES = 10_000
"""Series of one family; combinations of labels beyond are counted as the one in which each is `_OTHER`."""

OWN_NAMES = (
    "db_client_",
    "http_server_",
    "process_",
    "python_event_loop_",
    "python_gc_",
    "server_processes",
    "upshift_",
    "websocket_server_",
)
"""How the names of Upshift's own metrics begin. Some are declared as late as when the process serves."""

MAX_WAITING = 64
"""Observations of a histogram that wait for each other."""

logger = logging.getLogger("upshift.telemetry")

_NAME = re.compile(r"[a-z][a-z0-9_]*")


class Exemplar(NamedTuple):
    """One observation of a bucket, and the trace it came from."""

    trace_id: str
    value: float
    at: float


class Counter:
    """A series that only rises.

    Attributes:
        values: one number, the count.
    """

    __slots__ = ("_lock", "values")

    def __init__(self) -> None:
        self.values = array("d", (0.0,))
        self._lock = Lock()

    def add(self, amount: float = 1.0) -> None:
        """Add an amount.

        Raises:
            ValueError: it is negative, infinite or no number.
        """
        if not 0.0 <= amount < math.inf:
            raise ValueError(f"a counter only rises by finite amounts, not by {amount!r}")
        with self._lock:
            self.values[0] += amount


class Gauge:
    """A series that rises and falls.

    Attributes:
        values: one number, the present value.
    """

    __slots__ = ("_lock", "values")

    def __init__(self) -> None:
        self.values = array("d", (0.0,))
        self._lock = Lock()

    def set(self, value: float) -> None:
        """Set the present value."""
        with self._lock:
            self.values[0] = value

    def add(self, amount: float) -> None:
        """Add an amount, which may be negative."""
        with self._lock:
            self.values[0] += amount


class Histogram:
    """A series that counts observations by size.

    Observations wait for others: to sort some dozens and to count those between two bounds costs a fifth of
    searching each one's bucket. Whoever reads `values` finds all of them counted.

    Attributes:
        bounds: the buckets' upper bounds, each belonging to its bucket, without infinity.
        exemplars: the latest traced observation of each bucket.
    """

    __slots__ = ("_lock", "_rejected", "_values", "_waiting", "bounds", "exemplars")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.exemplars: list[Exemplar | None] = [None] * (len(bounds) + 1)
        self._values = array("d", bytes(8 * (len(bounds) + 2)))
        self._rejected = 0
        self._waiting = array("d")
        self._lock = Lock()

    @property
    def values(self) -> array[float]:
        """The observations in each bucket, not cumulated, the last without a bound; then their sum."""
        with self._lock:
            self._count()
        return self._values

    @property
    def rejected(self) -> int:
        """Observations that were no finite numbers; they change nothing else."""
        with self._lock:
            self._count()
        return self._rejected

    def observe(self, value: float, trace_id: str = "") -> None:
        """Count an observation.

        Args:
            value: what was observed, in the family's unit.
            trace_id: the trace to name as an example of its bucket.

        Raises:
            TypeError: the value is no number.
        """
        waiting = self._waiting
        waiting.append(value)
        if len(waiting) >= MAX_WAITING:
            self.settle()
        if trace_id:
            self.exemplify(value, trace_id)

    def observe_all(self, values: Iterable[float]) -> None:
        """Count some observations, at once unless others are being counted."""
        if self._lock.acquire(blocking=False):
            try:
                self._sort_in([*values])
            finally:
                self._lock.release()
        else:
            self._waiting.extend(values)

    def observe_some(self, values: Iterable[float]) -> None:
        """Count a few observations, soon."""
        self._waiting.extend(values)
        if len(self._waiting) >= MAX_WAITING:
            self.settle()

    def exemplify(self, value: float, trace_id: str) -> None:
        """Name the trace of an observation, which is counted elsewhere, as an example of its bucket."""
        if math.isfinite(value):
            self.exemplars[bisect_left(self.bounds, value)] = Exemplar(trace_id, value, time())

    def settle(self) -> None:
        """Count what waits, unless that is under way."""
        # Where somebody is counting, perhaps this very thread before a signal, it is left to the next.
        if self._lock.acquire(blocking=False):
            try:
                self._count()
            finally:
                self._lock.release()

    def _count(self) -> None:
        """Count what waits; the caller has the lock."""
        taken = self._waiting.tolist()
        del self._waiting[: len(taken)]  # what others have appended meanwhile stays
        self._sort_in(taken)

    def _sort_in(self, taken: list[float]) -> None:
        total = sum(taken)
        if not math.isfinite(total):
            finite = [*filter(math.isfinite, taken)]
            self._rejected += len(taken) - len(finite)
            taken, total = finite, sum(finite)
        taken.sort()
        counts = self._values
        counts[-1] += total
        below = 0
        for bucket, bound in enumerate((*self.bounds, math.inf)):
            if below == len(taken):
                return
            up_to = bisect_right(taken, bound, below)
            if up_to != below:
                counts[bucket] += up_to - below
                below = up_to


S = TypeVar("S", Counter, Gauge, Histogram)
LabelBounds = Mapping[str, Iterable[object] | int]


class Declaration(NamedTuple):
    """What a family is declared with; two declarations of one name must be equal."""

    name: str
    help: str
    unit: str
    kind: Kind
    labels: dict[str, tuple[str, ...] | int]
    buckets: tuple[float, ...] = ()


class Series(NamedTuple):
    """One series, as it is added up over several workers and exposed.

    Attributes:
        family: the name of its family.
        labels: the values of the family's labels, in their order.
        kind: how values of several workers make one.
        values: see `Counter`, `Gauge` and `Histogram`.
    """

    family: str
    labels: tuple[str, ...]
    kind: Kind
    values: Sequence[float]


class Family(Generic[S]):
    """A declared metric. `labelled` gives its series; the registry makes families.

    Attributes:
        name: the name without the suffix that an exposition adds (`_total`, `_bucket`).
        help: one sentence.
        unit: the unit that the name ends with; "" where it ends with none.
        labels: the labels' names.
        declared: what it was declared with.
        kind: `counter`, `gauge` or `histogram`.
        series: the series so far, by their labels' values.
        refused: observations whose labels went beyond a bound and were counted as `_OTHER`.
    """

    def __init__(self, declared: Declaration) -> None:
        self.declared = declared
        self.name = declared.name
        self.help = declared.help
        self.unit = declared.unit
        self.kind = declared.kind
        self.labels = tuple(declared.labels)
        self.series: dict[tuple[str, ...], S] = {}
        self.refused = 0
        self._seen: dict[str, set[str]] = {
            label: set(() if isinstance(bound, int) else bound) for label, bound in declared.labels.items()
        }
        self._lock = Lock()
        if not self.labels:
            self.series[()] = self._make()

    def _make(self) -> S:
        raise NotImplementedError

    def labelled(self, **labels: object) -> S:
        """Return the series with these labels' values, making it if it is new.

        A member of an `Enum` stands for its value, a bool for `true` or `false`.

        Raises:
            ValueError: the labels are not those that the family was declared with.
        """
        try:
            given = [labels[name] for name in self.labels]
            values = tuple([each if type(each) is str else _label(each) for each in given])
        except KeyError:
            values = ()
        if len(labels) != len(values) or len(values) != len(self.labels):
            raise ValueError(
                f"{self.name} has the labels {', '.join(self.labels) or 'none'}; "
                f"it was given {', '.join(labels) or 'none'}"
            )
        return self.at(values)

    def at(self, values: tuple[str, ...]) -> S:
        """Return the series with these values of the labels, in their order."""
        found = self.series.get(values)
        return self._add(values) if found is None else found

    def snapshot(self) -> tuple[tuple[tuple[str, ...], S], ...]:
        """Return the series with their labels' values; others may be added meanwhile."""
        with self._lock:
            return tuple(self.series.items())

    def _add(self, values: tuple[str, ...]) -> S:
        with self._lock:
            bounded = tuple(map(self._bounded, self.labels, values))
            if bounded not in self.series and len(self.series) >= MAX_SERIES:
                bounded = (OTHER,) * len(bounded)
            if bounded != values:
                self.refused += 1
            found = self.series.get(bounded)
            if found is None:
                found = self._make()
                self.series[bounded] = found
            return found

    def _bounded(self, label: str, value: str) -> str:
        value = _mended(value)
        seen, bound = self._seen[label], self.declared.labels[label]
        if value not in seen:
            if not isinstance(bound, int) or len(seen) >= bound:
                return OTHER
            seen.add(value)
        return value


class CounterFamily(Family[Counter]):
    """A declared counter."""

    def _make(self) -> Counter:
        return Counter()

    def add(self, amount: float = 1.0, /, **labels: object) -> None:
        """Add an amount to the series with these labels; see `Counter.add`."""
        self.labelled(**labels).add(amount)


class GaugeFamily(Family[Gauge]):
    """A declared gauge."""

    def _make(self) -> Gauge:
        return Gauge()

    def set(self, value: float, /, **labels: object) -> None:
        """Set the series with these labels."""
        self.labelled(**labels).set(value)

    def add(self, amount: float, /, **labels: object) -> None:
        """Add an amount, which may be negative, to the series with these labels."""
        self.labelled(**labels).add(amount)


class HistogramFamily(Family[Histogram]):
    """A declared histogram; its buckets' upper bounds are `declared.buckets`."""

    def _make(self) -> Histogram:
        return Histogram(self.declared.buckets)

    def observe(self, value: float, /, **labels: object) -> None:
        """Count an observation in the series with these labels."""
        self.labelled(**labels).observe(value)


AnyFamily = CounterFamily | GaugeFamily | HistogramFamily
F = TypeVar("F", CounterFamily, GaugeFamily, HistogramFamily)


class Metrics:
    """The metrics of one application.

    Declaring a metric again with the same facts gives the same family.

    Attributes:
        faults: calls of functions given to `before_collecting` that failed.

    Example:
        >>> metrics = Metrics()
        >>> orders = metrics.counter(
        ...     "orders_placed", "Orders placed", unit="orders", labels={"channel": ("web", "phone")}
        ... )
        >>> orders.add(1, channel="web")
        >>> orders.add(2, channel="fax")  # not declared: counted, but without a series of its own
        >>> {labels: series.values[0] for labels, series in orders.series.items()}
        {('web',): 1.0, ('_OTHER',): 2.0}
    """

    def __init__(self) -> None:
        self._families: dict[str, AnyFamily] = {}
        self._before: list[Callable[[], None]] = []
        self._lock = Lock()
        self.faults = 0
        after_fork(self._renew_locks)

    def counter(
        self, name: str, text: str, *, unit: str = "", labels: LabelBounds | None = None, own: bool = False
    ) -> CounterFamily:
        """Declare a counter.

        Args:
            name: in snake case, without `_total`, which the exposition adds.
            text: what is counted, in one sentence.
            unit: what one is. It becomes the end of the name, unless the name already has that word.
            labels: for each label its possible values, such as `("web", "phone")` or an `Enum`, or how many
                different ones it may have.
            own: whether it is one of Upshift's own, which alone may begin with one of `OWN_NAMES`.

        Raises:
            ValueError: a name is not a metric's or a label's, the name is taken by another metric or kept for
                Upshift's own, or a label's values are neither values nor a number from 1 up.
        """
        declared = _declaration(name.removesuffix("_total"), text, unit, "counter", labels)
        return self._declare(CounterFamily, declared, own=own)

    def gauge(
        self, name: str, text: str, *, unit: str = "", labels: LabelBounds | None = None, own: bool = False
    ) -> GaugeFamily:
        """Declare a gauge; arguments and errors are those of `counter`."""
        return self._declare(GaugeFamily, _declaration(name, text, unit, "gauge", labels), own=own)

    def histogram(  # noqa: PLR0913 - all but two by name, with defaults
        self,
        name: str,
        text: str,
        *,
        unit: str = "seconds",
        labels: LabelBounds | None = None,
        buckets: Sequence[float] = DURATION_BUCKETS,
        own: bool = False,
    ) -> HistogramFamily:
        """Declare a histogram.

        Args:
            name: in snake case.
            text: what is observed, in one sentence.
            unit: as for `counter`.
            labels: as for `counter`.
            buckets: the upper bounds of its buckets, rising, without infinity.
            own: as for `counter`.

        Raises:
            ValueError: as for `counter`, or the buckets do not rise.
        """
        bounds = tuple(map(float, buckets))
        if not bounds or not all(low < high for low, high in pairwise((-math.inf, *bounds, math.inf))):
            raise ValueError(f"the buckets of {name} must be finite and rise; they are {buckets!r}")
        declared = _declaration(name, text, unit, "histogram", labels)
        return self._declare(HistogramFamily, declared._replace(buckets=bounds), own=own)

    def before_collecting(self, callback: Callable[[], None]) -> None:
        """Call a function before the metrics are read, such as one that sets gauges.

        Where it fails the others are called all the same, and the metrics are read as they are.
        """
        self._before.append(callback)

    def refresh(self) -> None:
        """Bring up to date what is counted on the way or read on demand."""
        for callback in self._before:
            try:
                callback()
            except Exception:
                self.faults += 1
                if self.faults == 1:
                    logger.exception("%r failed before a collection; later faults are only counted", callback)

    def families(self) -> tuple[AnyFamily, ...]:
        """Return the families in the order of their declaration, up to date."""
        self.refresh()
        return tuple(self._families.values())

    def series(self) -> tuple[Series, ...]:
        """Return all series as they are."""
        return tuple(
            Series(family.name, labels, family.kind, series.values)
            for family in tuple(self._families.values())
            for labels, series in family.snapshot()
        )

    def _renew_locks(self) -> None:
        """In a forked child: the threads that may have held the locks are the parent's."""
        self._lock = Lock()
        for family in self._families.values():
            family._lock = Lock()
            for series in family.series.values():
                series._lock = Lock()

    def _declare(self, make: Callable[[Declaration], F], declared: Declaration, *, own: bool) -> F:
        if declared.name.startswith(OWN_NAMES) and not own:
            raise ValueError(
                f"{declared.name} could be one of Upshift's own metrics, whose names begin with "
                f"{', '.join(OWN_NAMES)}; take another name, such as app_{declared.name}"
            )
        with self._lock:
            known = self._families.get(declared.name)
            if known is None:
                made = make(declared)
                self._families[declared.name] = made
                return made
        if known.declared != declared:
            raise ValueError(
                f"{declared.name} is declared already, with another help, unit, kind, label or bucket"
            )
        return cast("F", known)


def _declaration(name: str, text: str, unit: str, kind: Kind, labels: LabelBounds | None) -> Declaration:
    bounds = {label: _bound(name, label, bound) for label, bound in (labels or {}).items()}
    for each in (name, *bounds, *((unit,) if unit else ())):
        if not _NAME.fullmatch(each):
            raise ValueError(f"{each!r} cannot name a metric, a label or a unit; use lower_snake_case")
    if "le" in bounds:
        raise ValueError(f"{name} cannot have a label `le`: Prometheus uses it for buckets")
    if unit and unit not in name.split("_"):
        name = f"{name}_{unit}"
    return Declaration(name, text, unit if unit and name.endswith(f"_{unit}") else "", kind, bounds)


def _bound(name: str, label: str, bound: Iterable[object] | int) -> tuple[str, ...] | int:
    if isinstance(bound, int) and not isinstance(bound, bool) and bound > 0:
        return bound
    if isinstance(bound, Iterable) and not isinstance(bound, (str, bytes)):
        return tuple([_mended(_label(value)) for value in bound])
    raise ValueError(
        f"the label {label} of {name} is given {bound!r}; write its values, such as ('web', 'phone'), "
        "(True, False) or an Enum, or how many different ones it may have, from 1 up"
    )


def _label(value: object) -> str:
    """A label's value as text, alike where it is declared and where it is used."""
    if isinstance(value, Enum):
        value = value.value
    return str(value).lower() if isinstance(value, bool) else str(value)


def _mended(value: str) -> str:
    return value[:MAX_LABEL_LENGTH].encode("utf-8", "replace").decode()
