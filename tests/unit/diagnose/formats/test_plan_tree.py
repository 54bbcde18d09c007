from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from upshift.diagnose.formats.plan_tree import plan_tree
from upshift.sql import Explanation, PlanNode, PlanTree


def shown(*nodes: PlanNode, console: Console | None = None, **tree: object) -> list[str]:
    plan = PlanTree(database="postgresql", nodes=nodes, cost=100.0, **tree)
    return plan_tree(Explanation(tree=plan), console=console).splitlines()


def scan(**more: object) -> PlanNode:
    return PlanNode(**{"depth": 0, "kind": "Seq Scan", "relation": "t", "cost": 100.0, "rows": 5.0, **more})


def test_the_worst_node_is_marked():
    sort = PlanNode(depth=0, kind="Sort", cost=100.0, own_cost=10.0, rows=5.0)
    lines = shown(sort, scan(depth=1, own_cost=90.0))
    assert [line[:2] for line in lines if "Sort" in line or "Scan" in line] == ["  ", "> "]


def test_colour_is_only_where_the_console_has_it():
    console = Console(file=io.StringIO(), force_terminal=True, color_system="standard", width=80)
    assert "\x1b[" in "".join(shown(scan(own_cost=1.0), console=console))
    assert "\x1b[" not in "".join(shown(scan(own_cost=1.0), console=Console(file=io.StringIO())))


def test_measured_nodes_show_time_rows_and_what_was_planned():
    node = scan(actual_rows=2000.0, loops=1, seconds=0.02, own_seconds=0.02, removed_rows=300.0)
    lines = shown(node, is_executed=True, seconds=0.02)
    assert "20.0 ms  100%     2,000         5" in lines[-3]
    assert lines[-2].strip() == "reads and drops 300 rows"
    assert lines[-1].strip() == "400 times the rows planned"


def test_a_node_that_never_ran_says_so():
    never = scan(actual_rows=0.0, loops=0.0, seconds=0.0, own_seconds=0.0)
    assert "never" in shown(never, is_executed=True, seconds=0.1)[-1]


@given(
    st.lists(st.builds(PlanNode, depth=st.integers(0, 90), kind=st.text(max_size=60), relation=st.text(),
                       index=st.text(), alias=st.text(), cost=st.floats(0, 1e12), own_cost=st.floats(0, 1e12),
                       rows=st.floats(0, 1e12),
                       conditions=st.just((("Filter", "a\nb\x1b[31m \u202e" * 40),))), max_size=6)
)  # fmt: skip
def test_lines_have_eighty_columns_and_nothing_that_moves_a_cursor(nodes):
    lines = shown(*nodes, console=Console(file=io.StringIO()))
    assert all(cell_len(line) <= 80 for line in lines)
    assert all(line.isprintable() for line in lines)


@pytest.mark.parametrize("width", [20, 40, 200])
def test_other_widths_are_honoured(width):
    console = Console(file=io.StringIO(), force_terminal=True, color_system=None, width=width)
    lines = shown(scan(relation="a_table_with_a_very_long_name", own_cost=1.0), console=console)
    assert any("a_table" in line for line in lines)
