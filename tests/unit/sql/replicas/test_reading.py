"""Statements of the application's making that a replica must not get, and what is remembered of verdicts."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.expression import ColumnElement
from sqlalchemy.sql.functions import FunctionElement, GenericFunction

from upshift.sql.replicas.reading import MAX_VERDICTS, Reading

ITEM = sa.table("item", sa.column("id"), sa.column("name"))


class Rendered(ColumnElement):
    inherit_cache = True


@compiles(Rendered)
def render(_element, _compiler, **_options):
    return "nextval('item_id')"


class RenderedFunction(FunctionElement):
    inherit_cache = True
    name = "count"


@compiles(RenderedFunction)
def render_function(_element, _compiler, **_options):
    return "nextval('item_id')"


class Doubled(GenericFunction):
    inherit_cache = True
    name = "doubled"
    type = sa.Integer()


@pytest.fixture
def reading() -> Reading:
    reading = Reading()
    reading.learn({"count", "doubled"})
    return reading


@pytest.mark.parametrize(
    "statement",
    [
        sa.select(Rendered()),
        sa.select(RenderedFunction()),
        sa.select(ITEM.c.id.op("+ nextval('x') +")(1)),
        sa.select(ITEM.c.id).with_hint(ITEM, "TABLESAMPLE x"),
        sa.select(ITEM.c.id).suffix_with("FOR UPDATE"),
        sa.select(ITEM.c.id).where(sa.text("nextval('x') > 1")),
        sa.select(ITEM.c.id).order_by(sa.func.nextval("x")),
        sa.select(sa.select(ITEM.c.id).with_for_update().subquery().c.id),
        sa.select(ITEM.c.id).add_cte(sa.delete(ITEM).cte("gone")),
        sa.union(sa.select(ITEM.c.id), sa.select(sa.func.nextval("x"))),
        sa.select(sa.case((ITEM.c.id > 1, sa.func.nextval("x")), else_=0)),
        sa.select(sa.func.count().filter(sa.func.nextval("x") > 1)),
        sa.select(sa.func.nextval("x").table_valued("value")),
        sa.select(ITEM, sa.select(sa.func.nextval("x")).lateral()),
        sa.text("SELECT nextval('x')").columns(sa.column("nextval")),
        sa.func.nextval("x"),
        sa.func.pg_catalog.nextval("x"),
        sa.func.NEXTVAL("x"),
        sa.insert(ITEM),
        sa.update(ITEM),
        sa.delete(ITEM),
        sa.insert(ITEM).from_select(["id"], sa.select(ITEM.c.id)),
        sa.schema.CreateTable(sa.Table("made", sa.MetaData(), sa.Column("id", sa.Integer))),
        sa.DDL("DROP TABLE item"),
    ],
    ids=lambda statement: type(statement).__name__,
)
def test_what_may_write_is_not_proved_to_read(reading, statement):
    assert not reading.is_read(statement)
    assert not reading.is_read(statement)  # as is remembered


@pytest.mark.parametrize(
    "statement",
    [
        sa.select(ITEM),
        sa.select(sa.func.Doubled(ITEM.c.id), sa.func.count(), sa.func.COUNT()),
        sa.select(ITEM.c.id.op("@>")(1), ITEM.c.id.in_([1, 2]), -ITEM.c.id),
        sa.select(sa.cast(ITEM.c.id, sa.String), sa.extract("year", ITEM.c.name), sa.literal_column("1")),
        sa.text("SELECT count(*) FROM item").columns(sa.column("count")),
        sa.func.count(),
    ],
    ids=lambda statement: type(statement).__name__,
)
def test_what_reads_is_proved(reading, statement):
    assert reading.is_read(statement)


def test_verdicts_change_with_what_is_known(reading):
    statement = sa.select(sa.func.made_up(1))
    assert not reading.is_read(statement)
    reading.learn({"made_up"})
    assert reading.is_read(statement)
    reading.learn({"count"})
    assert not reading.is_read(statement)


def test_verdicts_do_not_pile_up(reading):
    for number in range(MAX_VERDICTS + 10):
        reading.is_read(sa.select(sa.column(f"c{number}")))
    assert len(reading._verdicts) <= MAX_VERDICTS


def test_a_verdict_holds_for_other_parameters_and_not_for_other_texts(reading):
    assert reading.is_read(sa.select(ITEM).where(ITEM.c.id == 1))
    assert reading.is_read(sa.select(ITEM).where(ITEM.c.id == 2))
    assert len(reading._verdicts) == 1
    assert reading.is_read(sa.text("SELECT 1"))
    assert not reading.is_read(sa.text("SELECT 1 FOR UPDATE"))
