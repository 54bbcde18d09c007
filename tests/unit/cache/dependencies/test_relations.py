"""What a statement does by way of other relations than it names."""

from __future__ import annotations

import pytest
from sqlalchemy import Column, ForeignKey, Integer, MetaData, Table

from upshift.cache.dependencies.effects import effect_of
from upshift.cache.dependencies.relations import Relations, Told
from upshift.cache.dependencies.schema import Schema


def links(**of):
    return {name: frozenset(others.split()) for name, others in of.items()}


KNOWN = Relations(
    links(told="hand"),
    [
        Told(frozenset(), links(view="table", outer="view leaf", over="parent"), {}),
        Told(frozenset(), {}, links(leaf="middle", sibling="parent", middle="parent", child="one other")),
    ],
)


def read(*names):
    return sorted(KNOWN.extended(effect_of(names), Schema()).tables.read)


def written(*names):
    return sorted(KNOWN.extended(effect_of([], written=names), Schema()).tables.written)


@pytest.mark.parametrize(
    ("name", "tags"),
    [
        ("table", ["table:table"]),
        ("view", ["table:table", "table:view"]),
        ("told", ["table:hand", "table:told"]),
        ("parent", ["table:parent"]),
        ("sibling", ["below:parent", "table:sibling"]),
        ("leaf", ["below:middle", "below:parent", "table:leaf"]),
        ("child", ["below:one", "below:other", "table:child"]),
        ("over", ["table:over", "table:parent"]),
        ("outer", ["below:middle", "below:parent", "table:leaf", "table:outer", "table:table", "table:view"]),
    ],
)
def test_a_reader_depends_on_what_is_behind_and_on_writes_from_above(name, tags):
    assert read(name) == tags


@pytest.mark.parametrize(
    ("name", "tags"),
    [
        ("table", ["rows:table", "table:table"]),
        ("parent", ["below:parent", "rows:parent", "table:parent"]),
        ("sibling", ["rows:parent", "rows:sibling", "table:parent", "table:sibling"]),
        ("view", ["rows:table", "rows:view", "table:table", "table:view"]),
        ("over", ["below:parent", "rows:over", "rows:parent", "table:over", "table:parent"]),
        (
            "middle",
            ["below:middle", "rows:middle", "rows:parent", "table:middle", "table:parent"],
        ),
    ],
)
def test_a_writer_changes_what_is_behind_and_above_and_what_is_below(name, tags):
    assert written(name) == tags


def test_what_is_changed_by_way_of_another_is_taken_further_by_foreign_keys():
    metadata, schema = MetaData(), Schema()
    Table("parent", metadata, Column("id", Integer, primary_key=True))
    Table("note", metadata, Column("id", Integer, ForeignKey("parent.id", ondelete="CASCADE")))
    schema.learn(metadata.tables["parent"])

    changed = KNOWN.extended(effect_of([], written=["leaf"]), schema).tables.written

    assert {"table:note", "rows:note"} <= changed


def test_a_catalogue_tells_more_of_what_was_known_where_that_has_come_to_depend_on_more():
    before = Told(frozenset({"view", "leaf", "table"}), links(view="table"), {})
    names = before.names

    assert Told(names, links(view="table leaf"), {}).has_more_of(names, before)
    assert Told(names, links(view="table"), links(leaf="parent")).has_more_of(names, before)
    assert not Told(names, {}, {}).has_more_of(names, before)
    assert not Told(names | {"new"}, links(view="table", new="table"), {}).has_more_of(names, before)
