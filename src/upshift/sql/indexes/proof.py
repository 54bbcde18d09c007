"""The proof: the workload is executed with each index and without it, and its upkeep is measured.

An index that the planner likes may gain nothing, or less than its upkeep. So, with all chosen indexes in
place on the copy, each is taken away by itself, the least promising first, and the statements that use it are
executed both ways, in turn, with the parameters that they were captured with. What is gained (a call, times
the calls observed) is set against the entries that the observed writes make in it, at the measured cost of an
entry. An index that does not pay is taken away for good before the next one is judged: of two that do the
same work the second then has to stand alone.

Columns that an index only carries make it much larger, so they have to earn it: where the same keys without
them do nearly as well, these are taken instead.

A figure is the least of several executions, the usual way to leave out what the machine did besides.
Statements that cannot be executed there (without parameters, with tables that were not copied) are judged by
the planner, which then has to see their cost fall by half.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from upshift.sql.indexes.advice import Declined, Figures, IndexAdvice, Served
from upshift.sql.indexes.index import replaces

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import ExitStack

    from upshift.sql.indexes.cases import Case, Cases
    from upshift.sql.indexes.index import Index
    from upshift.sql.indexes.trial import Trial

HALF = 0.5
"""The part of its cost that a statement may have left, where the planner alone speaks for an index."""

_LEAN = 1.25  # of the time with included columns, at most, without them
_FASTER = 0.85  # of the time without the index, at most, for one statement at least
_TURNS = 3
_ENOUGH_SECONDS = 0.4  # of one statement's executions, both ways


@dataclass(slots=True)
class _Trialled:
    """A statement with an index and without.

    Attributes:
        case: the statement.
        served: what the planner says.
        before: what executing it took without the index; None where it cannot be executed.
        after: with it.
    """

    case: Case
    served: Served
    before: float | None = None
    after: float | None = None


class Proof:
    """Judges chosen indexes that stand in a trial.

    Args:
        trial: where they stand.
        cases: the workload.
        on_progress: told what is being done, in a few words.
    """

    def __init__(self, trial: Trial, cases: Cases, on_progress: Callable[[str], None]) -> None:
        self._trial = trial
        self._cases = cases
        self._on_progress = on_progress

    def run(self, chosen: list[Index], standing: ExitStack) -> tuple[list[IndexAdvice], list[Declined]]:
        """Judge the indexes; those that are declined are taken away."""
        advices, declined = [], []
        if self._trial.removes:
            chosen = [self._leaner(index, chosen, standing) for index in chosen]
        for index in reversed(chosen):  # the search chose the most promising first
            self._on_progress(f"proving {index}")
            trialled = self._both_ways(index)
            figures = self._figures(index, trialled)
            reason = self._objection(trialled, figures)
            if reason:
                declined.append(Declined(index, reason))
                self._remove(index, standing)
                continue
            served = sorted((each.served for each in trialled), key=_ratio)
            advices.append(IndexAdvice(index, tuple(served), self._trial.unit, self._trial.how, figures))
        return advices, declined

    def _users(self, index: Index) -> list[Case]:
        return [case for case in self._cases.cases if index.name in case.plan.indexes]

    def _leaner(self, index: Index, chosen: list[Index], standing: ExitStack) -> Index:
        """The index without the columns that it includes, where statements are about as fast by it."""
        lean = replace(index, include=())
        table = self._cases.table_of(index)
        exists = table is not None and table.has_index(lean)
        if not index.include or exists or any(replaces(each, lean) for each in chosen if each is not index):
            return index
        self._on_progress(f"comparing {index} with {lean}")
        users = self._users(index)
        spent = dict.fromkeys(users, 0.0)
        rich: dict[Case, float | None] = dict.fromkeys(users)
        poor: dict[Case, float | None] = dict.fromkeys(users)
        for _ in range(_TURNS):
            for case in users:
                rich[case] = _least(rich[case], self._once(case, spent))
            with self._trial.without(index), self._trial.built(lean):
                for case in users:
                    poor[case] = _least(poor[case], self._once(case, spent))
        both = [
            (case.work.calls, first, second)
            for case in users
            if (first := rich[case]) is not None and (second := poor[case]) is not None
        ]
        with_them = sum(calls * first for calls, first, _ in both)
        without_them = sum(calls * second for calls, _, second in both)
        is_felt = any(second - first > self._trial.least_measure for _, first, second in both)
        if not both or (is_felt and without_them > _LEAN * with_them):
            return index
        standing.enter_context(self._trial.without(index))
        standing.enter_context(self._trial.built(lean))
        for case in users:
            self._cases.replan(case)
        return lean

    def _remove(self, index: Index, standing: ExitStack) -> None:
        if self._trial.removes:
            users = self._users(index)
            standing.enter_context(self._trial.without(index))
            for case in users:
                self._cases.replan(case)

    def _both_ways(self, index: Index) -> list[_Trialled]:
        users = self._users(index)
        with_it = {case: self._cases.plans(case.work) for case in users}
        without = {case: case.first for case in users}
        if self._trial.removes:
            with self._trial.without(index):
                without |= {case: now for case in users if (now := self._cases.plans(case.work))}
        found = []
        for case in users:
            after = with_it[case]
            if after is not None:
                before = without[case]
                plans = before[0].lines, after[0].lines
                served = Served(case.work.sql, before[1], after[1], *plans, calls=case.work.calls)
                found.append(_Trialled(case, served))
        if self._trial.removes:
            self._measure(index, found)
        return found

    def _measure(self, index: Index, found: list[_Trialled]) -> None:
        """Execute the statements with the index and without, in turns, until the figures are steady."""
        spent: dict[Case, float] = {each.case: 0.0 for each in found}
        for _ in range(_TURNS):
            waiting = [each for each in found if spent[each.case] < _ENOUGH_SECONDS]
            for each in waiting:
                each.after = _least(each.after, self._once(each.case, spent))
            with self._trial.without(index):
                for each in waiting:
                    each.before = _least(each.before, self._once(each.case, spent))
        for each in found:
            each.served = replace(each.served, measure_before=each.before, measure_after=each.after)

    def _once(self, case: Case, spent: dict[Case, float]) -> float | None:
        """The mean of one execution with each of the parameters."""
        started = time.monotonic()
        measures = [
            measure for each in case.work.variants if (measure := self._trial.measure(each)) is not None
        ]
        spent[case] += time.monotonic() - started
        return sum(measures) / len(measures) if len(measures) == len(case.work.variants) else None

    def _figures(self, index: Index, trialled: list[_Trialled]) -> Figures | None:
        gains = [
            each.case.work.calls * (each.before - each.after)
            for each in trialled
            if each.before is not None and each.after is not None
        ]
        if not gains:
            return None
        entry = self._trial.entry_cost(index)
        table = self._cases.table_of(index)
        return Figures(
            unit=self._trial.measured_in,
            gain=sum(gains),
            upkeep=self._cases.rows_written(index) * (entry or 0.0),
            entry=entry,
            size=self._trial.size(index),
            sample=self._trial.fraction(table) if table else 1.0,
        )

    def _objection(self, trialled: list[_Trialled], figures: Figures | None) -> str:
        """Why an index is not worth having; "" where it is."""
        if not trialled:
            return "no plan uses it beside the others"
        unmeasured = [each.served for each in trialled if each.before is None or each.after is None]
        if any(each.cost_after <= each.cost_before * HALF for each in unmeasured):
            return ""
        if figures is None:
            return "the planner sees the cost of no statement fall by half, and none could be executed"
        is_faster = any(
            each.after <= each.before * _FASTER and each.before - each.after > self._trial.least_measure
            for each in trialled
            if each.before is not None and each.after is not None
        )
        if not is_faster:
            return "no statement that would use it was faster when executed"
        if figures.gain <= figures.upkeep:
            gain, upkeep = f"{figures.gain:,.1f}", f"{figures.upkeep:,.1f} {figures.unit}"
            return f"reading gains {gain} by it, and writing costs {upkeep} more"
        return ""


def _least(known: float | None, measured: float | None) -> float | None:
    if known is None or measured is None:
        return measured if known is None else known
    return min(known, measured)


def _ratio(served: Served) -> float:
    return served.cost_after / max(served.cost_before, 1.0)
