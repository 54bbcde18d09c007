"""The search: which indexes, of all that might serve the workload, the planner would rather have.

In a round every candidate is tried by itself on top of those already chosen, and every statement that reaches
its table is planned again. A candidate helps a statement when the plan names it and costs less by a part that
is worth something. `upshift.sql.indexes.selection` chooses among them for all statements together, the writes
included. The chosen ones stand while the next round looks for more: the second table of a join may need its
own, and one more column may pay. In the end those are taken away again that the others have made needless.

Two indexes that help only together are not found.
"""

from __future__ import annotations

import time
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

from upshift.errors import IndexAdviceError
from upshift.sql.indexes.index import covers
from upshift.sql.indexes.selection import choose
from upshift.sql.plans.explain import ExplainRefusedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from upshift.sql.indexes.cases import Case, Cases
    from upshift.sql.indexes.index import Index, Target
    from upshift.sql.indexes.trial import Trial

MAX_CANDIDATES = 40
"""Candidates that are tried on one table in one round; what more of the workload asks for comes first."""

_MAX_ROUNDS = 4

Gains = dict["Index", dict["Case", float]]
"""For each index that was tried, the statements it helps and their costs under it."""


class Search:
    """One search in one trial.

    Args:
        trial: where indexes are tried.
        cases: the workload.
        most_left: the part of a statement's cost that may be left, for an index to help it.
        deadline: `time.monotonic()` from which on nothing more is tried.
        on_progress: told what is being done, in a few words.
    """

    def __init__(
        self,
        trial: Trial,
        cases: Cases,
        most_left: float,
        deadline: float,
        on_progress: Callable[[str], None],
    ) -> None:
        self._trial = trial
        self._cases = cases
        self._most_left = most_left
        self._deadline = deadline
        self._on_progress = on_progress

    def run(self, standing: ExitStack) -> list[Index]:
        """Have the chosen indexes built in the order of their gain; they stand until `standing` closes."""
        chosen: list[Index] = []
        cases = [case for case in self._cases.cases if case.candidates]
        for _ in range(_MAX_ROUNDS):
            gains = self._try(cases)
            wanted = choose(
                gains,
                {case: case.cost for case in cases},
                lambda case: case.work.calls,
                self._cases.upkeep,
                self._trial.negligible,
            )
            built = [index for index in wanted if self._build(index, standing)]
            if not built:
                break
            chosen += built
            names = {index.name for index in built}
            self._replan()
            cases = [case for case in cases if not names.isdisjoint(case.plan.indexes)]
            for case in cases:
                self._settle(case, built)
        return self._without_needless(chosen, standing) if self._trial.removes else chosen

    def _settle(self, case: Case, built: list[Index]) -> None:
        """Seek no further index on a table that a statement reaches once, and now by one of its best."""
        served = {index.target for index in built if index.name in case.plan.indexes} - case.repeated
        case.candidates = [
            index for index in case.candidates if index not in built and index.target not in served
        ]

    def _build(self, index: Index, standing: ExitStack) -> bool:
        with suppress(IndexAdviceError):  # it was built before: only a lock can be in the way now
            standing.enter_context(self._trial.built(index))
            return True
        return False

    def _replan(self) -> None:
        for case in self._cases.cases:
            cost = self._cases.replan(case)
            case.cost = case.cost if cost is None else min(cost, case.cost)

    def _without_needless(self, chosen: list[Index], standing: ExitStack) -> list[Index]:
        """Take away what an index chosen later does as well, the first chosen first."""
        kept = list(chosen)
        for index in chosen:
            if not any(other is not index and other.target == index.target for other in kept):
                continue
            users = [case for case in self._cases.cases if index.name in case.plan.indexes]
            cost = sum(case.work.calls * case.cost for case in users)
            with self._trial.without(index):
                left = sum(case.work.calls * self._cost_now(case) for case in users)
            slack = self._trial.negligible * sum(case.work.calls for case in users)
            if left - cost <= slack + self._cases.upkeep(index):
                standing.enter_context(self._trial.without(index))
                kept.remove(index)
                self._replan_users(users)
        return kept

    def _replan_users(self, users: list[Case]) -> None:
        for case in users:
            cost = self._cases.replan(case)
            case.cost = case.cost if cost is None else cost

    def _cost_now(self, case: Case) -> float:
        planned = self._cases.plans(case.work)
        return case.cost if planned is None else planned[1]

    def _try(self, cases: list[Case]) -> Gains:
        """Try each candidate by itself and see which statements it helps."""
        gains: Gains = {}
        for index in self._candidates(cases):
            wanting = [case for case in cases if _wants(case, index, gains)]
            if not wanting or time.monotonic() > self._deadline:
                continue
            self._on_progress(f"trying {index}")
            try:
                with self._trial.tried(index):
                    costs = {case: self._cost_with(index, case) for case in cases}
            except IndexAdviceError as error:  # a value too long for a B-tree, a lock not to be had
                for case in wanting:
                    self._cases.skip(case.work.sql, "not tried", str(error))
                continue
            gains[index] = {case: cost for case, cost in costs.items() if cost is not None}
        return gains

    def _candidates(self, cases: list[Case]) -> list[Index]:
        """What to try in this round: what most of the workload asks for; long ones first."""
        wanted: dict[Index, float] = {}
        for case in cases:
            if case.cost >= self._trial.least_cost:
                for index in case.candidates:
                    wanted[index] = wanted.get(index, 0.0) + case.work.calls * case.cost
        tried: dict[Target, int] = {}
        candidates = []
        for index in sorted(wanted, key=lambda index: -wanted[index]):
            tried[index.target] = tried.get(index.target, 0) + 1
            if tried[index.target] <= MAX_CANDIDATES:
                candidates.append(index)
        return sorted(candidates, key=lambda index: (len(index.include) > 0, -len(index.columns)))

    def _cost_with(self, index: Index, case: Case) -> float | None:
        """The statement's cost, if its plan uses the index and is cheaper by enough."""
        if index.target not in case.targets or case.cost < self._trial.least_cost:
            return None
        with suppress(ExplainRefusedError):
            planned = self._cases.plans(case.work)
            if planned and index.name in planned[0].indexes and planned[1] <= case.cost * self._most_left:
                return planned[1]
        return None


def _wants(case: Case, index: Index, gains: Gains) -> bool:
    """Whether an index may help a statement: not if a longer one that begins with its columns did not."""
    return index in case.candidates and not any(
        case not in gains[longer] and covers(longer.columns, index.columns)
        for longer in case.candidates
        if longer in gains and longer.target == index.target and longer.is_plain and index.is_plain
    )
