"""The Python text of an index builds the same index: a round trip through SQLAlchemy."""

from __future__ import annotations

import ast
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.schema import CreateIndex

from upshift.sql.indexes.declaration import as_models
from upshift.sql.indexes.index import Condition, Index, IndexColumn

DIALECTS = {
    "postgresql": postgresql.dialect(paramstyle="named"),
    "sqlite": sqlite.dialect(paramstyle="named"),
}

EVERY_KIND = [
    Index("postgresql", "t", (IndexColumn("a"), IndexColumn("b", descending=True, nulls_first=False))),
    Index("postgresql", "t", (IndexColumn("a", operator_class="text_pattern_ops"),), schema="s"),
    Index("postgresql", "t", (IndexColumn("a"),), include=("b", "c d")),
    Index("postgresql", "t", (IndexColumn("a"),), where=(Condition("b", "=", "it's 5%"),)),
    Index("postgresql", "t", (IndexColumn("a"),), where=(Condition("b", "false"), Condition("c", "=", -3))),
    Index("postgresql", "t", (IndexColumn("a"),), where=(Condition("b", "is true"),)),
    Index("postgresql", "t", (IndexColumn("a", function="lower", operator_class="text_pattern_ops"),)),
    Index("postgresql", "t", (IndexColumn("a", function="day", descending=True), IndexColumn("b"))),
    Index("postgresql", "t", (IndexColumn("a", function="date"),)),
    Index("postgresql", "t", (IndexColumn("a", operator_class="gin_trgm_ops"),), method="gin"),
    Index("sqlite", "t", (IndexColumn("a", function="date"),), where=(Condition("b", "is not null"),)),
]


def built(index: Index) -> str:
    """The DDL that the lines for the models compile to, in a table with columns of those names."""
    code: dict[str, Any] = {}
    exec(as_models([index]), code)
    names = {key.name for key in index.columns} | set(index.include) | {c.column for c in index.where}
    columns = [sa.Column(name, sa.Text) for name in sorted(names)]
    table = sa.Table(index.table, sa.MetaData(), *columns, *code["__table_args__"], schema=index.schema)
    (made,) = table.indexes
    return str(CreateIndex(made).compile(dialect=DIALECTS[index.dialect]))


@pytest.mark.parametrize("index", EVERY_KIND, ids=str)
def test_the_lines_build_what_the_sql_builds(index):
    assert built(index) == index.blocking_sql


NAMES = st.text(st.characters(exclude_categories=["C"]), min_size=1, max_size=20)


@given(
    names=st.lists(NAMES, min_size=4, max_size=4, unique=True),
    value=st.text(st.characters(exclude_categories=["C"], exclude_characters="\\"), max_size=20),
    function=st.sampled_from([None, "lower", "date", "month"]),
)
def test_whatever_the_names_and_constants_are(names, value, function):
    key, second, included, asked = names
    index = Index(
        "postgresql",
        "t",
        (IndexColumn(key, function=function), IndexColumn(second, descending=True)),
        include=(included,),
        where=(Condition(asked, "=", value),),
    )
    assert built(index) == index.blocking_sql


def test_the_text_holds_nothing_but_calls_of_sqlalchemy():
    hostile = "'); import os; os.abort() #"
    index = Index("postgresql", hostile, (IndexColumn(hostile),), where=(Condition(hostile, "=", hostile),))
    tree = ast.parse(as_models([index]))
    assert [type(each) for each in tree.body] == [ast.Import, ast.Assign]


def test_a_table_has_its_lines_together():
    first = Index("postgresql", "t", (IndexColumn("a"),))
    text = as_models([first, replace(first, table="u"), replace(first, columns=(IndexColumn("b"),))])
    assert text.count("__table_args__") == 2
    assert text.count("sa.Index") == 3
