"""How each statement's plans came one after another, in fixed memory.

Plans of one shape that follow each other are one run: of the run the latest plan is kept, and the last few
costs. Plans for any parameters have runs of their own: they do not change with the values that happened to be
slow, so where the database gives them they tell best whether something has changed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from statistics import median
from typing import Literal

from upshift.sql.analysis.digest import Digest  # noqa: TC001 - msgspec reads the types when it decodes
from upshift.sql.plans.explanation import Explanation  # noqa: TC001 - likewise
from upshift.sql.plans.tree import PlanTree  # noqa: TC001 - likewise

MAX_STATEMENTS = 200
"""Statements whose plans are kept; the one explained longest ago goes first."""

MAX_RUNS = 6
"""Runs of one statement that are kept, the latest."""

MAX_VALUES = 5
"""Costs and times of one run that are kept, the latest."""

WORSE = 2.0
"""How many times dearer or slower a plan has to be than the one before."""

LEAST_COST = 50.0
"""By how much its cost has to differ; a scan of a thousand narrow rows costs about 20."""

LEAST_SECONDS = 0.005
"""By how much its time has to differ."""

CONFIRMED = 2
"""How often the new plan has to be seen; and its time, and that of the one before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRun:
    """Plans of one shape that followed each other.

    Attributes:
        tree: the latest of them.
        since: when the first was seen, in seconds of `time.time()`.
        last: when the latest was.
        count: how many there were.
        costs: the planner's costs of the latest of them; empty where the database gives none.
        seconds: how long the executions took that they were asked for, of the latest of them.
    """

    tree: PlanTree
    since: float
    last: float
    count: int = 1
    costs: tuple[float, ...] = ()
    seconds: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StatementPlans:
    """The plans of one kind of statement.

    Attributes:
        digest: what its executions have in common.
        explanation: the latest.
        runs: the runs of plans for the parameters of executions, the oldest first.
        generic_runs: those of plans for any parameters.
    """

    digest: Digest
    explanation: Explanation
    runs: tuple[PlanRun, ...] = ()
    generic_runs: tuple[PlanRun, ...] = ()

    @property
    def telling_runs(self) -> tuple[PlanRun, ...]:
        """The runs that tell whether a plan has changed: those for any parameters, where there are some."""
        return self.generic_runs or self.runs

    @property
    def is_unconfirmed(self) -> bool:
        """Whether a plan has just changed, so that it is worth asking again soon."""
        runs = self.telling_runs
        return len(runs) > 1 and runs[-1].count < CONFIRMED


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRegression:
    """A plan that changed and became worse.

    Attributes:
        before: the plans before.
        after: the plans since.
        measure: what tells that they are worse.
        was: the median of it before, as planner's cost or in seconds.
        is_now: the median since.
    """

    before: PlanRun
    after: PlanRun
    measure: Literal["cost", "seconds"]
    was: float
    is_now: float


class PlanHistory:
    """The plans of the statements of one application.

    Any thread may read while one writes.
    """

    def __init__(self) -> None:
        self._plans: dict[str, StatementPlans] = {}

    def add(self, digest: Digest, explanation: Explanation, *, at: float, seconds: float | None) -> None:
        """Keep an explanation.

        Args:
            digest: of the statement.
            explanation: its plan.
            at: when it was asked for, in seconds of `time.time()`.
            seconds: how long the execution took that it was asked for.
        """
        known = self._plans.pop(digest.id, None) or StatementPlans(digest=digest, explanation=explanation)
        generic = explanation.generic
        if len(self._plans) >= MAX_STATEMENTS:
            self._plans.pop(next(iter(self._plans)))
        self._plans[digest.id] = replace(
            known,
            explanation=explanation,
            runs=_with(known.runs, explanation.tree, at, seconds),
            generic_runs=_with(known.generic_runs, generic, at, seconds) if generic else known.generic_runs,
        )

    def of(self, digest: Digest) -> StatementPlans | None:
        """Return the plans of a statement; None where none was kept."""
        return self._plans.get(digest.id)

    def statements(self) -> tuple[StatementPlans, ...]:
        """Return all plans, of the statement explained longest ago first."""
        return tuple(self._plans.values())


def _with(runs: tuple[PlanRun, ...], tree: PlanTree, at: float, seconds: float | None) -> tuple[PlanRun, ...]:
    costs = () if tree.cost is None else (tree.cost,)
    times = () if seconds is None else (seconds,)
    if runs and runs[-1].tree.shape == tree.shape:
        last = runs[-1]
        grown = replace(
            last,
            tree=tree,
            last=at,
            count=last.count + 1,
            costs=(*last.costs, *costs)[-MAX_VALUES:],
            seconds=(*last.seconds, *times)[-MAX_VALUES:],
        )
        return (*runs[:-1], grown)
    return (*runs, PlanRun(tree=tree, since=at, last=at, costs=costs, seconds=times))[-MAX_RUNS:]


def regression(plans: StatementPlans) -> PlanRegression | None:
    """Tell whether a statement's latest plan is a new one, seen again, and worse than the one before.

    A plan that was seen before that one is no news: the planner goes back and forth between the two, as it
    may for values of which there are few and values of which there are many.
    """
    *earlier, after = plans.telling_runs or (None,)
    if not earlier or after is None or after.count < CONFIRMED:
        return None
    before = earlier[-1]
    if before is None or any(run is not None and run.tree.shape == after.tree.shape for run in earlier):
        return None
    if before.costs and after.costs:
        was, is_now = median(before.costs), median(after.costs)
        if is_now >= was * WORSE and is_now - was >= LEAST_COST:
            return PlanRegression(before=before, after=after, measure="cost", was=was, is_now=is_now)
    if min(len(before.seconds), len(after.seconds)) >= CONFIRMED:
        was, is_now = median(before.seconds), median(after.seconds)
        apart = min(after.seconds) > max(before.seconds)
        if apart and is_now >= was * WORSE and is_now - was >= LEAST_SECONDS:
            return PlanRegression(before=before, after=after, measure="seconds", was=was, is_now=is_now)
    return None
