"""How far the values of one sample lie from those of another, without a word on how they are distributed.

The estimate is that of Hodges and Lehmann, the median of all differences between a value of the one and a
value of the other; the interval is the one that belongs to the test of Mann and Whitney, between two of those
differences chosen by its exact distribution (Hollander, Wolfe, Chicken: "Nonparametric Statistical Methods",
3rd edition, 4.2 and 4.3). One wild value moves neither far, and where there are too few values for the
confidence that is asked for, there is no interval rather than a narrow one.
"""

from __future__ import annotations

from itertools import accumulate
from math import comb
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence


class Shift(NamedTuple):
    """How much larger the values of a second sample are.

    Attributes:
        estimate: the median difference.
        low: the lower end of its interval.
        high: the upper end.
    """

    estimate: float
    low: float
    high: float


def shift(before: Sequence[float], after: Sequence[float], alpha: float) -> Shift | None:
    """Return how far `after` lies above `before`; None where there are too few values to tell.

    Args:
        before: one sample.
        after: the other.
        alpha: the probability, at most, of an interval that does not hold the truth.

    Example:
        >>> shift([1.0, 1.1, 1.2, 1.3, 1.4], [2.0, 2.1, 2.2, 2.3, 2.4], 0.05).estimate
        1.0
        >>> shift([1.0, 1.1], [2.0, 2.1], 0.05) is None
        True
    """
    return Shifts(alpha).of(before, after)


class Shifts:
    """Tells shifts of many samples, and remembers what depends on how many values they have.

    Args:
        alpha: as `shift` takes it.

    Attributes:
        alpha: the same.
    """

    def __init__(self, alpha: float) -> None:
        self.alpha = alpha
        self._ranks: dict[tuple[int, int], int | None] = {}

    def of(self, before: Sequence[float], after: Sequence[float]) -> Shift | None:
        """Return how far `after` lies above `before`; None where there are too few values to tell."""
        sizes = len(before), len(after)
        if sizes not in self._ranks:
            self._ranks[sizes] = _rank(*sizes, self.alpha)
        rank = self._ranks[sizes]
        if rank is None:
            return None
        differences = sorted(late - early for late in after for early in before)
        return Shift(median(differences), differences[rank], differences[-1 - rank])


def absence(seen: int, present: int, absent: int) -> float:
    """Return how probable it is that all windows with a statement lie on one side by chance.

    Args:
        seen: windows with it.
        present: windows on the side where it is.
        absent: windows on the side where it never is.

    Example:
        >>> round(absence(6, 6, 6), 5)  # 1 of the 924 ways to choose 6 windows of 12
        0.00108
    """
    return comb(present + absent - seen, absent) / comb(present + absent, absent)


def _rank(first: int, second: int, alpha: float) -> int | None:
    """The differences to leave out at each end: the most that the confidence allows; None if it is none."""
    total = comb(first + second, first)
    rank = None
    for number, ways in enumerate(accumulate(_ways(first, second))):
        if not first * second or 2 * ways > alpha * total:
            break
        rank = number
    return rank


def _ways(first: int, second: int) -> list[int]:
    """In how many orders of both samples the statistic is 0, 1, 2, …: a Gaussian binomial coefficient."""
    size = first * second + 1
    ways = [1] + [0] * (size - 1)
    for i in range(1, first + 1):
        for k in range(size - 1, second + i - 1, -1):  # times 1 - q^(second + i)
            ways[k] -= ways[k - second - i]
        for k in range(i, size):  # by 1 - q^i
            ways[k] += ways[k - i]
    return ways
