from __future__ import annotations

import json

import msgspec
import pytest

from upshift.errors import IndexAdviceError
from upshift.sql.indexes.advice import IndexAdvice, Served, consolidate
from upshift.sql.indexes.index import Index, IndexColumn


def advice(
    *columns: str, sql: str = "SELECT 1", before: float = 100, after: float = 10, table: str = "t"
) -> IndexAdvice:
    index = Index("postgresql", table, tuple(map(IndexColumn, columns)))
    served = Served(sql, before, after, ("Seq Scan",), ("Index Scan",))
    return IndexAdvice(index, (served,), "planner cost", "copy")


def test_advices_for_one_index_are_merged():
    (merged,) = consolidate([advice("a", sql="p"), advice("a", sql="q")])
    assert merged.serves == ("p", "q")


def test_an_index_whose_columns_lead_another_is_left_out_and_its_statements_kept():
    (merged,) = consolidate([advice("a", sql="p"), advice("a", "b", sql="q")])
    assert [column.name for column in merged.columns] == ["a", "b"]
    assert set(merged.serves) == {"p", "q"}


@pytest.mark.parametrize("other", [advice("b", "a"), advice("a", "b", table="u")])
def test_an_index_that_no_other_covers_stays(other):
    assert len(consolidate([advice("a"), other])) == 2


def test_the_statement_that_gains_most_comes_first():
    (merged,) = consolidate([advice("a", sql="p", after=40), advice("a", sql="q", after=1)])
    assert merged.serves == ("q", "p")
    assert (merged.cost_before, merged.cost_after) == (100, 1)


def test_the_index_that_serves_most_comes_first():
    merged = consolidate([advice("a", sql="p"), advice("b", sql="p"), advice("b", sql="q")])
    assert [each.columns[0].name for each in merged] == ["b", "a"]


def test_consolidating_twice_changes_nothing():
    once = consolidate([advice("a", sql="p"), advice("a", "b", sql="q"), advice("c", sql="p")])
    assert consolidate(once) == once


def test_advice_survives_json():
    given = advice("a", "b")
    assert IndexAdvice.from_dict(json.loads(json.dumps(given.to_dict()))) == given
    assert IndexAdvice.from_dict(msgspec.json.decode(msgspec.json.encode(given.to_dict()))) == given


def test_the_data_has_what_readers_look_for():
    data = advice("a").to_dict()
    assert data["create_sql"] == f"CREATE INDEX CONCURRENTLY {data['name']} ON t (a)"
    assert data["undo_sql"].startswith("DROP INDEX CONCURRENTLY")
    assert "op.create_index" in data["alembic"]
    assert list(data["columns"]) == [
        {
            "name": "a",
            "descending": False,
            "nulls_first": None,
            "operator_class": None,
            "function": None,
        }
    ]
    assert (data["table"], data["cost_before"], data["cost_after"], data["verified"]) == (
        "t",
        100,
        10,
        "copy",
    )


@pytest.mark.parametrize(
    "change", [{"served": []}, {"served": [{}]}, {"unit": "euro"}, {"table": ""}, {"name": "x"}]
)
def test_data_that_is_no_advice_is_refused(change):
    with pytest.raises(IndexAdviceError):
        IndexAdvice.from_dict(advice("a").to_dict() | change)
