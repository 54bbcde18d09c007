"""UP209: a statement's plan has changed, and the new one is worse.

The change is told when the new plan was seen twice, was not seen before, and costs at least twice as much,
or takes twice as long; see `upshift.sql.plans.history.regression`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from upshift.diagnose.finding import Finding, Severity
from upshift.sql import regression

if TYPE_CHECKING:
    from collections.abc import Iterator

    from upshift.diagnose.observation import Observation
    from upshift.sql import PlanNode, PlanRegression, PlanTree, StatementPlans, StatementStatistics

CODE = "UP209"

MAX_NODES = 3
"""Nodes of each plan that are shown: those that the other has not."""


def find(observation: Observation) -> Iterator[Finding]:
    """Yield a finding for each statement whose plan changed for the worse."""
    rows = {row.digest.id: row for row in observation.statements}
    for plans in observation.plans:
        found = regression(plans)
        if found is not None:
            yield _finding(plans, rows.get(plans.digest.id), found)


def _finding(plans: StatementPlans, row: StatementStatistics | None, found: PlanRegression) -> Finding:
    factor = found.is_now / found.was if found.was else float("inf")
    before, after = found.before.tree, found.after.tree
    if found.measure == "cost":
        numbers = f"planner cost {found.was:,.0f} → {found.is_now:,.0f}"
    else:
        numbers = f"{found.was * 1e3:,.1f} → {found.is_now * 1e3:,.1f} ms"
    times = "costs" if found.measure == "cost" else "takes"
    since = datetime.fromtimestamp(found.after.since, UTC)
    return Finding(
        code=CODE,
        severity=Severity.WARNING,
        title=f"the plan changed, and {times} {factor:,.1f} times as much",
        site=row.site if row else None,
        routes=tuple(sorted(row.routes)) if row else (),
        evidence=(
            f"{numbers}, since {since:%Y-%m-%d %H:%M} UTC",
            f"before: {_only_in(before, after)}",
            f"now: {_only_in(after, before)}",
            *_causes(before, after),
            plans.digest.text,
        ),
        fix=(
            "see what the tables lack: an index that was dropped or is invalid, or statistics: upshift db",
            "and what the plan says: upshift plan --sql …",
        ),
        expect=f"back to what it was: {numbers}",
        data={
            "digest": plans.digest.id,
            "measure": found.measure,
            "before": found.was,
            "after": found.is_now,
            "since": found.after.since,
            "shape_before": before.shape,
            "shape_after": after.shape,
        },
    )


def _only_in(tree: PlanTree, other: PlanTree) -> str:
    """What a plan does that the other does not."""
    others = {_step(node) for node in other.nodes}
    steps = list(dict.fromkeys(step for node in tree.nodes if (step := _step(node)) not in others))
    more = f" and {len(steps) - MAX_NODES} more" if len(steps) > MAX_NODES else ""
    return ", ".join(steps[:MAX_NODES] or ["the same steps in another order"]) + more


def _step(node: PlanNode) -> str:
    using = f" using {node.index}" if node.index else ""
    on = f" on {node.relation}" if node.relation else ""
    return f"{node.kind}{using}{on}"


def _causes(before: PlanTree, after: PlanTree) -> Iterator[str]:
    if before.version != after.version:
        yield f"the database's version changed: {before.version} → {after.version}"
    for name in sorted({*before.settings, *after.settings}):
        was, is_now = (tree.settings.get(name, "the default") for tree in (before, after))
        if was != is_now:
            yield f"the setting {name} changed: {was} → {is_now}"
