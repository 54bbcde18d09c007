"""A distribution of durations in fixed memory, with quantiles that are right to one percent.

The method is DDSketch (Masson, Rim, Lee: "DDSketch: A Fast and Fully-Mergeable Quantile Sketch with
Relative-Error Guarantees", PVLDB 12(12), 2019): bucket bounds grow by the factor gamma =
(1 + alpha) / (1 - alpha), so one point of each bucket is within alpha of everything in it. Two things
differ from the paper, both for speed and simplicity in plain Python:

- The range is fixed (1 µs to 1 h), so the bounds are a constant that all histograms share, and a value's
  bucket is one binary search in C. That measured faster than `int(log(value) * k)`, and than `frexp` with
  interpolation, which needs half as many buckets again; and exact bounds leave no rounding cases.
- The buckets are a dense array of 64-bit counters: 8.8 KB, whatever is added. A dict of the used buckets
  is larger from about 80 of them on, and a latency distribution commonly fills 150. Counters of 32 bits
  would halve that, but one may overflow within a week at ten thousand requests a second.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left, bisect_right
from itertools import accumulate
from operator import add
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

RELATIVE_ERROR = 0.01
"""How far a quantile may be from the true value, as a share of the true value."""

LOWEST = 1e-6
"""Smallest value with that guarantee, in seconds; smaller ones share one bucket."""

HIGHEST = 3600.0
"""Largest value with that guarantee, in seconds; larger ones share one bucket."""

_GAMMA = (1 + RELATIVE_ERROR) / (1 - RELATIVE_ERROR)
_BOUNDS = tuple(LOWEST * _GAMMA**i for i in range(math.ceil(math.log(HIGHEST / LOWEST, _GAMMA)) + 1))


class Histogram:
    """Durations in seconds, folded into counters.

    Count, sum, minimum and maximum are exact, also of values outside the range; quantiles of values from
    `LOWEST` to `HIGHEST` are within `RELATIVE_ERROR`. NaN, infinities and negative values are not durations:
    they are counted in `rejected` and change nothing else, so that one broken clock cannot spoil a route's
    figures.

    One thread (an event loop) adds; others may read at any time, and see at worst one addition half done.

    Attributes:
        count: durations added.
        sum: their sum, in seconds.
        min: the smallest one, in seconds; NaN while empty.
        max: the largest one, in seconds; NaN while empty.
        rejected: values that were no durations.

    Example:
        >>> histogram = Histogram()
        >>> for milliseconds in range(1, 101):
        ...     histogram.add(milliseconds / 1000)
        >>> histogram.count, histogram.max, round(histogram.quantile(0.95), 4)  # 0.095 in truth
        (100, 0.1, 0.0958)
    """

    __slots__ = ("_buckets", "count", "max", "min", "rejected", "sum")

    def __init__(self) -> None:
        # Bucket i counts values from bound i-1 up to but without bound i; the first and the last are open.
        self._buckets = array("Q", [0]) * (len(_BOUNDS) + 1)
        self.count = 0
        self.sum = 0.0
        self.min = math.nan
        self.max = math.nan
        self.rejected = 0

    def add(self, seconds: float) -> None:
        """Count one duration."""
        if not 0.0 <= seconds < math.inf:
            self.rejected += 1
            return
        self._widen(seconds, seconds)
        self._buckets[bisect_right(_BOUNDS, seconds)] += 1
        self.count += 1
        self.sum += seconds

    def add_all(self, durations: Collection[float]) -> None:
        """Count some durations; of some dozens each costs a fifth of what one alone does."""
        taken, total = sorted(durations), sum(durations)
        if not (taken and taken[0] >= 0.0 and total < math.inf):  # also where one is no number
            taken = sorted(seconds for seconds in durations if 0.0 <= seconds < math.inf)
            total = sum(taken)
            self.rejected += len(durations) - len(taken)
            if not taken:
                return
        self._widen(taken[0], taken[-1])
        buckets, size, counted = self._buckets, len(taken), 0
        bucket, last = 0, bisect_right(_BOUNDS, taken[-1])
        while counted < size:
            bucket = bisect_right(_BOUNDS, taken[counted], bucket, last)
            up_to = size if bucket == last else bisect_left(taken, _BOUNDS[bucket], counted)
            buckets[bucket] += up_to - counted
            counted = up_to
        self.count += size
        self.sum += total

    def _widen(self, lowest: float, highest: float) -> None:
        """Widen the range, before what widens it is counted: `quantile` reads what is between its ends."""
        # Written so that the comparison with the first NaN lets the value in.
        if not lowest >= self.min:
            self.min = lowest
        if not highest <= self.max:
            self.max = highest

    @property
    def mean(self) -> float:
        """The arithmetic mean in seconds; NaN while empty."""
        return self.sum / self.count if self.count else math.nan

    def quantile(self, q: float) -> float:
        """Return the `q`-quantile in seconds, by nearest rank; NaN while empty.

        Args:
            q: from 0 (the smallest) to 1 (the largest); 0.95 is the 95th percentile.

        Raises:
            ValueError: `q` is not from 0 to 1.
        """
        if not 0.0 <= q <= 1.0:
            raise ValueError(f"a quantile is a number from 0 to 1 (the 95th percentile is 0.95), not {q!r}")
        if not self.count:
            return math.nan
        rank = max(1, math.ceil(q * self.count))
        first, last = bisect_right(_BOUNDS, self.min), bisect_right(_BOUNDS, self.max)
        bucket = first + bisect_left([*accumulate(self._buckets[first : last + 1])], rank)
        if bucket == 0:
            return self.min
        if bucket == len(_BOUNDS):
            return self.max
        low, high = _BOUNDS[bucket - 1], _BOUNDS[bucket]
        # The point with equal relative error towards both bounds.
        estimate = 2 * low * high / (low + high)
        return min(max(estimate, self.min), self.max)

    def merge(self, other: Histogram) -> None:
        """Add all that `other` counted, as if its durations had been added here."""
        if other.count:
            self._widen(other.min, other.max)
        self._buckets = array("Q", [*map(add, self._buckets, other._buckets)])
        self.count += other.count
        self.sum += other.sum
        self.rejected += other.rejected
