"""Which of the indexes that were tried are worth having, for all statements together.

A round of the Extend algorithm (Schlosser, Kossmann and Boissier, "Efficient Scalable Multi-Attribute Index
Selection Using Recursive Strategies", ICDE 2019), the best of those that Kossmann, Halfpap, Jankrift and
Schlosser compared ("Magic mirror in my hand, which is the best in the land?", VLDB 2020) when time and the
number of indexes count: take the index that leaves the workload least to do, then the one that leaves least
after it, until none pays for its upkeep. `upshift.sql.indexes.advisor` runs rounds until one changes nothing,
so that an index taken in one round is extended in the next where more columns pay.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping

    from upshift.sql.indexes.index import Index

_NEARLY = 1.1  # times the least cost is about as good: the planner knows no better

_Key = TypeVar("_Key", bound="Hashable")


def choose(
    gains: Mapping[Index, Mapping[_Key, float]],
    standing: Mapping[_Key, float],
    calls: Callable[[_Key], float] = lambda _: 1.0,
    upkeep: Callable[[Index], float] = lambda _: 0.0,
    negligible: float = 0.0,
) -> list[Index]:
    """Choose the indexes that leave a workload least to do; of those that do about as well, the smallest.

    Args:
        gains: for each index the statements it helps, with their costs under it. The first of equals wins.
        standing: what each statement costs without any of them.
        calls: how often a statement runs.
        upkeep: what an index costs the workload's writes.
        negligible: costs that differ by no more than this are about the same.

    Example:
        >>> from upshift.sql.indexes.index import Index, IndexColumn
        >>> narrow, wide = (Index("sqlite", "t", tuple(map(IndexColumn, names))) for names in ("a", "ab"))
        >>> standing = {"p": 1000, "q": 1000}
        >>> choose({narrow: {"p": 10, "q": 900}, wide: {"p": 10, "q": 10}}, standing) == [wide]
        True
        >>> choose({narrow: {"p": 10, "q": 10}, wide: {"p": 10, "q": 10}}, standing) == [narrow]
        True
        >>> choose({narrow: {"p": 10}}, standing, upkeep=lambda _: 2000)
        []
    """
    costs = dict(standing)
    open_ = dict(gains)
    chosen: list[Index] = []

    def saved(index: Index) -> float:
        less = sum(calls(key) * max(costs[key] - cost, 0.0) for key, cost in open_[index].items())
        return less - upkeep(index)

    def slack(index: Index) -> float:
        """What does not count of that: it is no better than what the planner's estimates are worth."""
        helped = ((key, cost) for key, cost in open_[index].items() if cost < costs[key])
        return sum(calls(key) * (negligible + cost * (_NEARLY - 1)) for key, cost in helped)

    while True:
        worthy = [index for index in open_ if saved(index) > slack(index)]
        if not worthy:
            return chosen
        best = max(worthy, key=saved)
        enough = saved(best) - slack(best)
        index = min((each for each in worthy if saved(each) >= enough), key=size_order)
        chosen.append(index)
        for key, cost in open_.pop(index).items():
            costs[key] = min(costs[key], cost)


def size_order(index: Index) -> tuple[int, bool, int]:
    """Sorts indexes from small to large: a partial one is smaller than any that holds all rows."""
    return (len(index.columns) + len(index.include), index.method != "btree", -len(index.where))
