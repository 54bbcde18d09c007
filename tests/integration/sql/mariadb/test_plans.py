from __future__ import annotations

import pytest
import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from upshift.sql.placeholders import Sample
from upshift.sql.plans.explain import ExplainRefusedError
from upshift.sql.plans.mariadb import plan_mariadb


@pytest.fixture
def plan(mariadb_server, shop):
    engine = sa.create_engine(mariadb_server.url(shop, driver="pymysql"), poolclass=NullPool)

    def plan(sql: str, parameters=None):
        with engine.connect() as connection:
            return plan_mariadb(connection, Sample(sql, parameters), seconds=5.0)

    return plan


def steps(tree) -> list[tuple[int, str, str, str]]:
    return [(node.depth, node.kind, node.relation, node.index) for node in tree.nodes]


def test_a_scan_of_a_table_with_a_sort(plan):
    tree = plan("SELECT * FROM sale WHERE note = %s ORDER BY concat(note, id)", ("x",))

    assert steps(tree) == [(0, "filesort", "", ""), (1, "ALL", "sale", "")]
    assert tree.nodes[1].rows == 40.0
    assert tree.nodes[1].conditions == (("attached_condition", "sale.note = ?"),)
    assert tree.database == "mariadb"
    assert tree.version


def test_joins_name_their_indexes(plan):
    tree = plan("SELECT c.name FROM sale s JOIN customer c ON c.id = s.customer_id WHERE s.id = %s", (7,))

    assert steps(tree) == [(0, "const", "s", "PRIMARY"), (0, "const", "c", "PRIMARY")]


def test_a_subquery_stands_below_what_it_is_read_by(plan):
    tree = plan("SELECT count(*) FROM (SELECT DISTINCT note FROM sale) t")

    assert [node.depth for node in tree.nodes] == sorted(node.depth for node in tree.nodes)
    assert tree.nodes[-1].relation == "sale"
    assert tree.nodes[0].relation == ""


def test_without_parameters_it_is_planned_for_none(plan):
    assert plan("SELECT * FROM sale WHERE customer_id = %s AND note LIKE '10%%'").nodes


def test_nothing_is_executed(plan):
    plan("DELETE FROM sale WHERE id > %s", (0,))
    assert plan("SELECT * FROM sale").nodes[0].rows == 40.0


def test_the_databases_refusal_is_told(plan):
    with pytest.raises(ExplainRefusedError, match="nowhere"):
        plan("SELECT * FROM nowhere")
