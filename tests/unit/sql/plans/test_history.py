from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upshift.sql.analysis.digest import Digest
from upshift.sql.plans import history
from upshift.sql.plans.explanation import Explanation
from upshift.sql.plans.history import MAX_RUNS, MAX_STATEMENTS, MAX_VALUES, PlanHistory, regression
from upshift.sql.plans.tree import PlanNode, PlanTree

DIGEST = Digest("d" * 16, "SELECT ?")


def tree(index: str, cost: float | None = 10.0, *, is_generic: bool = False) -> PlanTree:
    node = PlanNode(depth=0, kind="Scan", relation="t", index=index, cost=cost)
    return PlanTree(database="postgresql", nodes=(node,), cost=cost, is_generic=is_generic)


def plans_of(*seen: tuple[str, float | None, float | None]) -> history.StatementPlans:
    kept = PlanHistory()
    for at, (index, cost, seconds) in enumerate(seen):
        kept.add(DIGEST, Explanation(tree=tree(index, cost)), at=float(at), seconds=seconds)
    (plans,) = kept.statements()
    return plans


def test_plans_of_one_shape_are_one_run():
    plans = plans_of(("i", 10.0, 0.1), ("i", 12.0, 0.2), ("j", 9.0, 0.3), ("i", 11.0, 0.4))
    assert [(run.count, run.costs, run.since, run.last) for run in plans.runs] == [
        (2, (10.0, 12.0), 0.0, 1.0),
        (1, (9.0,), 2.0, 2.0),
        (1, (11.0,), 3.0, 3.0),
    ]


def test_a_change_for_the_worse_is_told_when_it_was_seen_twice():
    before = [("i", 10.0, None)] * 3
    assert regression(plans_of(*before, ("", 500.0, None))) is None
    found = regression(plans_of(*before, ("", 500.0, None), ("", 520.0, None)))
    assert (found.measure, found.was, found.is_now) == ("cost", 10.0, 510.0)


@pytest.mark.parametrize(
    ("why", "seen"),
    [
        ("it became better", [("", 500.0, None), ("i", 10.0, None), ("i", 10.0, None)]),
        ("it costs about the same", [("i", 400.0, None), ("j", 500.0, None), ("j", 500.0, None)]),
        ("both cost next to nothing", [("i", 8.0, None), ("j", 30.0, None), ("j", 30.0, None)]),
        ("the same plan became dearer", [("i", 10.0, None), ("i", 5000.0, None), ("i", 5000.0, None)]),
        (
            "it goes back and forth",
            [("", 900.0, None), ("i", 9.0, None), ("", 900.0, None), ("", 900.0, None)],
        ),
        ("it is the only one", [("", 900.0, None), ("", 900.0, None)]),
        ("its times overlap", [("i", None, t) for t in (0.01, 0.09)] + [("", None, t) for t in (0.05, 0.2)]),
        ("nothing tells its time", [("i", None, None), ("", None, None), ("", None, None)]),
    ],
)
def test_no_regression(why, seen):
    assert regression(plans_of(*seen)) is None, why


def test_times_tell_where_there_are_no_costs():
    seen = [("i", None, t) for t in (0.010, 0.012)] + [("", None, t) for t in (0.09, 0.08)]
    found = regression(plans_of(*seen))
    assert (found.measure, found.was, found.is_now) == ("seconds", 0.011, pytest.approx(0.085))


def test_plans_for_any_parameters_decide_where_there_are_some():
    kept = PlanHistory()
    for index in ("i", "", ""):
        explanation = Explanation(tree=tree(index, 900.0), generic=tree("i", 10.0, is_generic=True))
        kept.add(DIGEST, explanation, at=0.0, seconds=None)
    (plans,) = kept.statements()
    assert (regression(plans), len(plans.runs), len(plans.telling_runs)) == (None, 2, 1)


def test_a_plan_that_has_just_changed_is_unconfirmed():
    assert plans_of(("i", 1.0, None), ("j", 1.0, None)).is_unconfirmed
    assert not plans_of(("i", 1.0, None)).is_unconfirmed
    assert not plans_of(("i", 1.0, None), ("j", 1.0, None), ("j", 1.0, None)).is_unconfirmed


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.floats(0, 1e9)), min_size=1, max_size=200))
def test_what_is_kept_of_a_statement_has_bounds(seen):
    plans = plans_of(*((index, cost, cost) for index, cost in seen))
    assert len(plans.runs) <= MAX_RUNS
    assert all(len(run.costs) <= MAX_VALUES and len(run.seconds) <= MAX_VALUES for run in plans.runs)
    regression(plans)


def test_the_statement_explained_longest_ago_goes_first():
    kept = PlanHistory()
    digests = [Digest(f"{number:016x}", "SELECT ?") for number in range(MAX_STATEMENTS + 1)]
    for digest in (*digests[:-1], digests[0], digests[-1]):
        kept.add(digest, Explanation(tree=tree("i")), at=0.0, seconds=None)
    assert len(kept.statements()) == MAX_STATEMENTS
    assert (kept.of(digests[0]) is not None, kept.of(digests[1])) == (True, None)
