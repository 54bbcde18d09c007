"""Which objects to load together, and how many: pure bookkeeping, no SQL.

A *cohort* is the objects that came out of one query. A *walk* is one relationship being read along one
cohort. Each walk fetches in batches that grow along `SCHEDULE`, so that reading one object of a thousand
fetches for one, and reading all of them fetches for all in a few statements.

A walk knows how many of the values it fetched were read. When it ends, `Experience` remembers for its place
in the code how far it went, and the next walk from there starts with a batch of that size.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import OrderedDict, defaultdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping

    from sqlalchemy.orm.identity import IdentityMap
    from sqlalchemy.orm.state import InstanceState

SCHEDULE = (1, 8, 64, 500)
"""Batch sizes. The last is the number of keys that SQLAlchemy's selectin loader puts into one statement."""

MAX_PLACES = 2_048
"""Places in the code remembered; the one unused for longest makes room."""


class Experience:
    """How far walks went, by the place in the code that they started from.

    Example:
        >>> experience = Experience()
        >>> experience.first_level("orders.py:42")
        0
        >>> experience.learn("orders.py:42", 30)
        >>> SCHEDULE[experience.first_level("orders.py:42")]
        64
    """

    def __init__(self) -> None:
        self._levels: OrderedDict[Hashable, int] = OrderedDict()

    def first_level(self, place: Hashable) -> int:
        """Return the index in `SCHEDULE` of the first batch of a new walk."""
        return self._levels.get(place, 0)

    def learn(self, place: Hashable, used: int) -> None:
        """Remember that a walk read `used` values.

        Growing takes one lesson, shrinking one step a lesson: a page that is read whole nine times of ten
        keeps its single statement.
        """
        level = min(bisect_left(SCHEDULE, used), len(SCHEDULE) - 1)
        known = self._levels.pop(place, 0)
        self._levels[place] = max(level, known - 1)
        if len(self._levels) > MAX_PLACES:
            self._levels.popitem(last=False)


class Walk:
    """One relationship being read along one cohort.

    Attributes:
        place: where in the code the walk started, for `Experience`.
        used: values that the application has read.
        mates: states of the cohort that have not been looked at yet.
        look: the look at the session that `mates` came from; 0 before the first.
        is_over: whether the session has written since; what was fetched for the walk is out of date.
    """

    __slots__ = ("_level", "is_over", "look", "mates", "place", "used")

    def __init__(self, place: Hashable, level: int) -> None:
        self.place = place
        self.used = 0
        self.mates: list[InstanceState[Any]] = []
        self.look = 0
        self.is_over = False
        self._level = level

    def next_size(self) -> int:
        """Return the size of the next batch, and step along the schedule."""
        size = SCHEDULE[self._level]
        self._level = min(self._level + 1, len(SCHEDULE) - 1)
        return size


class Cohorts:
    """The objects of one session by the query that they came from.

    A look at all objects of a session takes time in proportion to their number, so after the first one each
    must be paid for: one lazy load for each `OBJECTS_PER_LOAD` objects.
    """

    OBJECTS_PER_LOAD = 500

    def __init__(self) -> None:
        self._by_run: Mapping[int | None, list[InstanceState[Any]]] = {}
        self._looks = 0
        self._loads_since_look = 0

    def count_loads(self, loads: int) -> None:
        """Count lazy loads, or those that a batch stands for, towards the next look."""
        self._loads_since_look += loads

    def refill(self, walk: Walk, run: int | None, objects: IdentityMap) -> bool:
        """Give the walk the mates it has not seen yet, if there are any and a look is paid for.

        Args:
            walk: the walk, whose mates have run out.
            run: the query that loaded its cohort, by the number that SQLAlchemy gives each.
            objects: the session's objects.

        Returns:
            Whether the walk has mates now.
        """
        nothing_new = walk.look == self._looks or run not in self._by_run
        is_paid = self._looks == 0 or self._loads_since_look * self.OBJECTS_PER_LOAD >= len(objects)
        if nothing_new and is_paid:
            self._look(objects)
        if walk.look != self._looks:
            walk.look = self._looks
            walk.mates = self._by_run.get(run, [])[::-1]
        return bool(walk.mates)

    def _look(self, objects: IdentityMap) -> None:
        self._looks += 1
        self._loads_since_look = 0
        by_run: defaultdict[int | None, list[InstanceState[Any]]] = defaultdict(list)
        for state in objects.all_states():
            by_run[state.runid].append(state)
        self._by_run = by_run
