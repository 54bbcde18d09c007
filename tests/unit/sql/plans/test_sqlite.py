from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest

from upshift.sql.placeholders import Sample
from upshift.sql.plans.explain import ExplainRefusedError
from upshift.sql.plans.sqlite import plan_sqlite


@pytest.fixture
def shop() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(
            """
            CREATE TABLE sale (id INTEGER PRIMARY KEY, seller INTEGER, cents INTEGER);
            CREATE INDEX sale_seller ON sale (seller);
            CREATE TABLE "odd (name" (a);
            """
        )
        yield connection


@pytest.mark.parametrize(
    ("sql", "node"),
    [
        ("SELECT * FROM sale", ("SCAN", "sale", "", "")),
        ("SELECT * FROM sale WHERE seller = 7", ("SEARCH", "sale", "sale_seller", "")),
        ("SELECT seller FROM sale WHERE seller = 7", ("SEARCH", "sale", "sale_seller", "covering")),
        ("SELECT * FROM sale s WHERE id = 7", ("SEARCH", "s", "INTEGER PRIMARY KEY", "")),
        ('SELECT * FROM "odd (name"', ("SCAN", "odd (name", "", "")),
    ],
)
def test_a_table_is_told_with_its_index(shop, sql, node):
    first = plan_sqlite(shop, Sample(sql)).nodes[0]
    assert (first.kind, first.relation, first.index, first.label) == node


@pytest.mark.parametrize(
    "sql", ["SELECT * FROM sale WHERE seller = ? AND cents > ?", "SELECT * FROM sale WHERE seller = :a"]
)
def test_it_is_planned_without_parameters_too(shop, sql):
    assert plan_sqlite(shop, Sample(sql)).nodes[0].index == "sale_seller"


def test_no_value_is_in_the_plan(shop):
    assert "4711" not in str(plan_sqlite(shop, Sample("SELECT * FROM sale WHERE seller = 4711")))


def test_the_worst_node_is_the_scan_of_a_whole_table_then_the_sort(shop):
    tree = plan_sqlite(shop, Sample("SELECT * FROM sale a JOIN sale b ON a.seller = b.id ORDER BY a.cents"))
    assert tree.nodes[tree.worst].kind == "SCAN"
    tree = plan_sqlite(shop, Sample("SELECT * FROM sale WHERE seller = 7 ORDER BY cents"))
    assert tree.nodes[tree.worst].kind == "USE TEMP B-TREE FOR ORDER BY"
    assert plan_sqlite(shop, Sample("SELECT * FROM sale WHERE id = 1")).worst is None


def test_what_the_database_refuses_is_told_in_its_words(shop):
    with pytest.raises(ExplainRefusedError, match="no such table: nowhere"):
        plan_sqlite(shop, Sample("SELECT * FROM nowhere"))
