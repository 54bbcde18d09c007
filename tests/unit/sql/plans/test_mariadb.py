from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from upshift.sql.plans.mariadb import MAX_CONDITION, read_mariadb
from upshift.sql.plans.tree import MAX_NODES

MYSQL = {
    "query_block": {
        "select_id": 1,
        "cost_info": {"query_cost": "506.25"},
        "ordering_operation": {
            "using_filesort": True,
            "table": {
                "table_name": "sale",
                "access_type": "ALL",
                "rows_examined_per_scan": 5000,
                "cost_info": {"read_cost": "6.25", "eval_cost": "500.00", "prefix_cost": "506.25"},
                "attached_condition": "(`shop`.`sale`.`note` = 'a secret')",
            },
        },
    }
}

NAMES = ["table", "query_block", "filesort", "cost_info", "cost", "key", "rows", "table_name", "x"]
json = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["table", "query_block", "filesort", "cost_info", "cost", "key", "rows", "table_name", "x"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


def test_mysqls_costs_are_read():
    tree = read_mariadb(MYSQL, database="mysql", version="8.4.0")

    assert tree.cost == 506.25
    assert [(node.depth, node.kind, node.relation) for node in tree.nodes] == [
        (0, "ordering", ""),
        (1, "ALL", "sale"),
    ]
    assert (tree.nodes[1].cost, tree.nodes[1].own_cost, tree.nodes[1].rows) == (506.25, 506.25, 5000.0)
    assert tree.worst == 1


def test_values_are_not_kept():
    assert "secret" not in str(read_mariadb(MYSQL))


def test_a_huge_plan_is_cut():
    tables = [{"table": {"table_name": "t", "attached_condition": "x" * 10_000}}] * (MAX_NODES + 10)
    tree = read_mariadb({"query_block": {"nested_loop": tables}})
    assert len(tree.nodes) == MAX_NODES
    assert len(tree.nodes[0].conditions[0][1]) == MAX_CONDITION


def test_a_deep_plan_is_cut():
    document: dict = {}
    for _ in range(5_000):
        document = {"query_block": document}
    assert read_mariadb(document).nodes == ()


@given(st.dictionaries(st.sampled_from(["query_block", "table"]), json, max_size=2))
def test_any_document_is_read(document):
    read_mariadb(document)
