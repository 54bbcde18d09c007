"""Answers of PostgreSQL as trees. Those of a real server are in the integration tests."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upshift.sql.plans.postgres import read_postgres
from upshift.sql.plans.tree import MAX_NODES, PlanTree


def node(kind: str, cost: float, *children: dict, rows: float = 1.0, **more: object) -> dict:
    raw = {"Node Type": kind, "Total Cost": cost, "Plan Rows": rows}
    return raw | {name.replace("_", " "): value for name, value in more.items()} | {"Plans": list(children)}


def ran(raw: dict, milliseconds: float, rows: float, loops: float = 1) -> dict:
    return raw | {"Actual Total Time": milliseconds, "Actual Rows": rows, "Actual Loops": loops}


def read(raw: dict, **answer: object) -> PlanTree:
    return read_postgres([{"Plan": raw, **answer}], is_generic=False)


def own_costs(tree: PlanTree) -> list[float]:
    return [node.own_cost for node in tree.nodes]


def test_the_inner_side_of_a_nested_loop_counts_for_each_outer_row():
    tree = read(node("Nested Loop", 1010.0, node("Seq Scan", 10.0, rows=100), node("Index Scan", 9.0)))
    assert own_costs(tree) == pytest.approx([100.0, 10.0, 900.0])


def test_a_limit_hands_down_no_more_than_it_costs_itself():
    tree = read(node("Limit", 10.0, node("Sort", 1000.0, node("Seq Scan", 900.0))))
    assert own_costs(tree) == pytest.approx([0.0, 1.0, 9.0])


def test_a_subplan_counts_for_each_row_of_its_node():
    subplan = node("Aggregate", 8.0, Parent_Relationship="SubPlan", Subplan_Name="SubPlan 1")
    tree = read(node("Seq Scan", 900.0, subplan, rows=100))
    assert own_costs(tree) == pytest.approx([100.0, 800.0])


def test_times_of_parallel_workers_are_side_by_side():
    scan = ran(node("Seq Scan", 90.0, Parallel_Aware=True), 30.0, 5.0, loops=3)
    tree = read(ran(node("Gather", 100.0, scan, Workers_Launched=2), 31.0, 15.0))
    assert [each.own_seconds for each in tree.nodes] == pytest.approx([0.001, 0.030])


def test_the_time_of_a_cte_is_not_its_readers():
    cte = ran(node("Aggregate", 50.0, Parent_Relationship="InitPlan", Subplan_Name="CTE s"), 40.0, 5.0)
    scan = ran(node("CTE Scan", 1.0, CTE_Name="s"), 41.0, 5.0)
    tree = read(ran(node("Hash Join", 60.0, cte, scan), 45.0, 5.0))
    assert [each.own_seconds for each in tree.nodes] == pytest.approx([0.004, 0.040, 0.001])


@pytest.mark.parametrize(
    ("above", "is_blamed"),
    [
        (lambda scan: node("Limit", 1.0, scan), False),
        (lambda scan: node("Limit", 1.0, node("Sort", 1.0, scan)), True),
        (lambda scan: node("Nested Loop", 1.0, node("Seq Scan", 1.0), scan, Join_Type="Semi"), False),
        (lambda scan: node("Nested Loop", 1.0, node("Seq Scan", 1.0), scan, Join_Type="Inner"), True),
        (lambda scan: node("Merge Join", 1.0, scan), False),
        (lambda scan: node("Hash Join", 1.0, node("Hash", 1.0, scan)), True),
        (lambda scan: node("Limit", 1.0, node("Aggregate", 1.0, scan, Strategy="Hashed")), True),
        (lambda scan: node("Limit", 1.0, node("Aggregate", 1.0, scan, Strategy="Sorted")), False),
    ],
)
def test_few_rows_are_a_misestimate_only_where_nothing_stops_the_node(above, is_blamed):
    scan = ran(node("Index Scan", 1.0, rows=5000, Relation_Name="t"), 1.0, 5.0)
    tree = read(ran(above(scan), 1.0, 5.0))
    (found,) = (each for each in tree.nodes if each.relation)
    assert (found.misestimate == 1 / 1000) is is_blamed


def test_what_was_never_executed_is_no_misestimate():
    assert read(ran(node("Seq Scan", 1.0, rows=5000), 0.0, 0.0, loops=0)).nodes[0].misestimate == 1.0


def test_conditions_are_without_values():
    raw = node("Seq Scan", 1.0, Filter="((t.a)::text = 'Ann'::text) AND (t.b > '2.5'::numeric)")
    assert read(raw).nodes[0].conditions == (("Filter", "((t.a)::text = ?) AND (t.b > ?)"),)


def test_what_a_sort_writes_to_disk_is_told():
    raw = ran(node("Sort", 1.0, Sort_Space_Type="Disk", Sort_Space_Used=2048), 1.0, 1.0)
    assert read(raw).nodes[0].spill_bytes == 2 * 2**20


def test_a_very_large_plan_is_cut_and_a_very_deep_one_read():
    wide = read(node("Append", 1.0, *(node("Seq Scan", 1.0) for _ in range(5000))))
    assert len(wide.nodes) == MAX_NODES
    deep = node("Seq Scan", 1.0)
    for _ in range(3000):
        deep = node("Materialize", 1.0, deep)
    assert len(read(deep).nodes) == MAX_NODES


def test_the_shape_changes_with_steps_tables_and_indexes_only():
    def shape(**more: object) -> str:
        return read(node("Index Scan", 1.0, **{"Relation_Name": "t", "Index_Name": "i", **more})).shape

    assert (
        shape()
        == shape(Filter="(a = 1)", Alias="x")
        == read(node("Index Scan", 77.0, rows=9.0, Relation_Name="t", Index_Name="i")).shape
    )
    assert len({shape(), shape(Index_Name="j"), shape(Relation_Name="u"), shape(Schema="s")}) == 4


plans = st.recursive(
    st.builds(node, st.sampled_from(["Seq Scan", "Index Scan"]), st.floats(0, 1e6), rows=st.floats(0, 1e6)),
    lambda below: st.builds(
        lambda kind, cost, rows, children: node(kind, cost, *children, rows=rows),
        st.sampled_from(["Nested Loop", "Limit", "Hash Join", "Append"]),
        st.floats(0, 1e6),
        st.floats(0, 1e6),
        st.lists(below, min_size=1, max_size=3),
    ),
    max_leaves=20,
)


@given(plans)
def test_what_the_nodes_cost_by_themselves_adds_up_to_the_whole(raw):
    tree = read(raw)
    assert sum(own_costs(tree)) == pytest.approx(tree.cost, abs=1e-6)
    assert min(own_costs(tree)) >= 0.0
