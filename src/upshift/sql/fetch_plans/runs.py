"""Which execution brought an object, told by the number that SQLAlchemy gives each.

An object's state knows the number of the execution that loaded it (`runid`), and nothing else of it. The
numbers come from one counter of the process. So each execution of a session draws a number itself, just
before SQLAlchemy draws the execution's own; an object belongs to the last execution before its number. Tasks
that execute through one session at the same time may confuse that. Then something wrong is learned, which
costs a fetch that nobody uses, and is given up for that.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, Any

from upshift.sql.loading.selectin import new_number

if TYPE_CHECKING:
    from sqlalchemy.orm import Mapper
    from sqlalchemy.orm.state import InstanceState

    from upshift.sql.fetch_plans.plan import Path, Place, Tally

MAX_RUNS = 5_000
"""Executions that a session remembers; then the older half is forgotten."""


class Execution:
    """One execution of a statement of the application's, and the lazy loads that followed.

    Attributes:
        place: whose statement it was.
        tallies: the lazy loads, by the path that leads to them.
    """

    __slots__ = ("place", "tallies")

    def __init__(self, place: Place) -> None:
        self.place = place
        self.tallies: dict[Path, Tally] = {}


class Run:
    """Objects that came together: by a statement itself, or by a load of a relationship of its objects.

    Attributes:
        execution: the execution that it goes back to.
        path: the relationships that lead from there.
    """

    __slots__ = ("execution", "path")

    def __init__(self, execution: Execution, path: Path = ()) -> None:
        self.execution = execution
        self.path = path

    @property
    def mapper(self) -> Mapper[Any]:
        """The mapper of its objects."""
        return self.path[-1].mapper if self.path else self.execution.place.root


class Runs:
    """The runs of one session, the latest last."""

    __slots__ = ("_numbers", "_runs")

    def __init__(self) -> None:
        self._numbers: list[int] = []
        self._runs: list[Run | None] = []

    def begin(self, run: Run | None) -> None:
        """Note that an execution begins; None for one whose objects nothing is learned from."""
        if len(self._numbers) >= MAX_RUNS:
            del self._numbers[: MAX_RUNS // 2], self._runs[: MAX_RUNS // 2]
        self._numbers.append(new_number())
        self._runs.append(run)

    @property
    def number(self) -> int:
        """What the execution that began last has drawn; those of its objects are greater."""
        return self._numbers[-1]

    def latest(self) -> Run | None:
        """Return the run that began last."""
        return self._runs[-1] if self._runs else None

    def of(self, state: InstanceState[Any]) -> Run | None:
        """Return the run that brought an object, with the whole path to it; None where that is not known."""
        number = state.runid
        index = bisect_left(self._numbers, number) - 1 if number is not None else -1
        run = self._runs[index] if index >= 0 else None
        if run is None:
            return None
        way: Any = state.load_path.path
        if way and _is_related(way[0].mapper, run.execution.place.root):
            run = Run(run.execution, way[1::2])  # with options the way is known from the statement on
        return run if _is_related(state.mapper, run.mapper) else None


def _is_related(mapper: Mapper[Any], other: Mapper[Any]) -> bool:
    return mapper.isa(other) or other.isa(mapper)
