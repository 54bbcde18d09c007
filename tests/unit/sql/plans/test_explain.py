from __future__ import annotations

from upshift.sql.plans.explain import MAX_LINES, parse_postgres


def node(kind: str, *children: dict, **more: object) -> dict:
    return {"Node Type": kind, "Total Cost": 12.34, "Plan Rows": 5, "Plans": list(children), **more}


def test_the_cost_is_the_root_nodes():
    assert parse_postgres([{"Plan": node("Limit", node("Sort") | {"Total Cost": 99.0})}]).cost == 12.34


def test_indexes_are_found_at_any_depth():
    plan = node("Limit", node("Nested Loop", node("Index Scan", **{"Index Name": "i"}), node("Seq Scan")))
    assert parse_postgres([{"Plan": plan}]).indexes == {"i"}


def test_a_line_for_each_node_is_indented_below_its_parent():
    plan = node("Limit", node("Index Scan", **{"Index Name": "i", "Relation Name": "t"}))
    assert parse_postgres([{"Plan": plan}]).lines == (
        "Limit (cost 12, rows 5)",
        "  Index Scan using i on t (cost 12, rows 5)",
    )


def test_conditions_are_not_kept_for_they_hold_values():
    plan = node("Seq Scan", Filter="(email = 'ann@example.org'::text)")
    assert "ann@example.org" not in str(parse_postgres([{"Plan": plan}]))


def test_a_very_large_plan_is_cut():
    plan = node("Append", *(node("Seq Scan") for _ in range(1000)))
    assert len(parse_postgres([{"Plan": plan}]).lines) == MAX_LINES
