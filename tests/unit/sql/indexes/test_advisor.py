from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from upshift.errors import IndexAdviceError
from upshift.sql.indexes.advisor import advise, choose
from upshift.sql.indexes.index import Index, IndexColumn


def index(columns: str) -> Index:
    return Index("sqlite", "t", tuple(map(IndexColumn, columns)))


def test_the_narrow_index_is_chosen_where_it_does_nearly_as_well():
    assert choose({index("a"): {"p": 12.0}, index("ab"): {"p": 10.0}}) == [index("a")]


def test_the_wide_index_is_chosen_where_it_does_much_better():
    assert choose({index("a"): {"p": 120.0}, index("ab"): {"p": 10.0}}) == [index("ab")]


def test_a_difference_that_is_negligible_does_not_count():
    gains = {index("a"): {"p": 12.0}, index("ab"): {"p": 8.5}}
    assert choose(gains, negligible=4.0) == [index("a")]
    assert choose(gains, negligible=3.0) == [index("ab")]


def test_one_index_that_serves_two_statements_is_chosen_before_one_for_each():
    gains = {index("a"): {"p": 10.0}, index("b"): {"q": 10.0}, index("ab"): {"p": 11.0, "q": 11.0}}
    assert choose(gains) == [index("ab")]


def test_nothing_is_chosen_where_nothing_helps():
    assert choose({}) == []
    assert choose({index("a"): {}}) == []


COSTS = st.dictionaries(
    st.sampled_from([index(columns) for columns in ("a", "b", "ab", "ba", "abc")]),
    st.dictionaries(st.sampled_from("pqrs"), st.floats(1, 1e6)),
)


@given(COSTS, st.floats(0, 1e3))
def test_every_statement_gets_an_index_nearly_as_good_as_its_best(gains, negligible):
    chosen = choose(gains, negligible)
    assert len(set(chosen)) == len(chosen)
    for statement in {statement for costs in gains.values() for statement in costs}:
        best = min(costs[statement] for costs in gains.values() if statement in costs)
        served = min(gains[each][statement] for each in chosen if statement in gains[each])
        assert served <= max(best * 1.3, best + negligible)


def test_a_database_of_another_kind_is_named():
    driver = SimpleNamespace(paramstyle="format", VERSION=(1, 0, 0))
    engine = sa.create_engine("mysql+pymysql://", module=driver)
    with pytest.raises(IndexAdviceError, match="mysql"):
        advise(engine, [])


def test_without_sqlglot_the_extra_is_named_and_the_room_still_opens():
    code = "import sys; sys.modules['sqlglot'] = None; import upshift.sql; import upshift.sql.indexes.advisor"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "pip install 'upshift[find]'" in ended.stderr.splitlines()[-1]
