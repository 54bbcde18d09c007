from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from upshift.sql.maintenance.advice import Work, advised, is_bloated
from upshift.sql.maintenance.tables import IndexHealth, TableHealth

THEN = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)
MB = 2**20

WELL = TableHealth(
    schema="public",
    name="orders",
    kind="table",
    size=100 * MB,
    live_rows=1_000_000,
    dead_rows=0,
    modified_rows=0,
    vacuumed_at=THEN,
    analyzed_at=THEN,
    age=10,
    max_age=200_000_000,
    bloat=0,
)
INDEX = IndexHealth(name="orders_pkey", size=30 * MB, bloat=0, is_valid=True)


def told(**facts: object) -> list[str]:
    return [work.sql for work in advised([replace(WELL, **facts)])]


@pytest.mark.parametrize(
    ("facts", "sql"),
    [
        ({"dead_rows": 300_000}, 'VACUUM (ANALYZE) "public"."orders"'),
        ({"age": 230_000_000}, 'VACUUM (FREEZE, ANALYZE) "public"."orders"'),
        ({"analyzed_at": None}, 'ANALYZE "public"."orders"'),
        ({"modified_rows": 250_000}, 'ANALYZE "public"."orders"'),
        ({"kind": "partitioned table", "analyzed_at": None, "age": None}, 'ANALYZE "public"."orders"'),
        (
            {"indexes": (replace(INDEX, bloat=20 * MB),)},
            'REINDEX INDEX CONCURRENTLY "public"."orders_pkey"',
        ),
        (
            {"indexes": (replace(INDEX, is_valid=False),)},
            'REINDEX INDEX CONCURRENTLY "public"."orders_pkey"',
        ),
        (
            {"indexes": (replace(INDEX, name="orders_pkey_ccnew1", is_valid=False),)},
            'DROP INDEX CONCURRENTLY IF EXISTS "public"."orders_pkey_ccnew1"',
        ),
    ],
)
def test_what_is_needed_is_advised(facts, sql):
    assert told(**facts) == [sql]


@pytest.mark.parametrize(
    "facts",
    [
        {},
        {"dead_rows": 100_000},  # autovacuum would not come yet
        {"dead_rows": 9_000, "live_rows": 1_000},  # small
        {"age": 205_000_000},  # autovacuum is about to come
        {"modified_rows": 150_000},
        {"analyzed_at": None, "live_rows": 900},
        {"kind": "partitioned table", "age": None},
        {"indexes": (INDEX,)},
        {"indexes": (replace(INDEX, size=12 * MB, bloat=9 * MB),)},
        {"indexes": (replace(INDEX, size=90 * MB, bloat=40 * MB),)},
        {"indexes": (replace(INDEX, bloat=None),)},
        {"indexes": (replace(INDEX, name="orders_ccnew", bloat=0),)},  # somebody's own name, and valid
    ],
)
def test_what_is_well_is_left_alone(facts):
    assert told(**facts) == []


def test_vacuum_analyses_too_so_both_are_one_work():
    assert told(dead_rows=300_000, modified_rows=900_000, analyzed_at=None) == [
        'VACUUM (ANALYZE) "public"."orders"'
    ]


@pytest.mark.parametrize(
    ("bloat", "is_so"), [(None, False), (0, False), (9 * MB, False), (35 * MB, False), (45 * MB, True)]
)
def test_a_table_is_bloated_when_much_and_a_large_part_of_it_is_lost(bloat, is_so):
    assert is_bloated(replace(WELL, bloat=bloat)) is is_so


@pytest.mark.parametrize("verb", ["analyze", "vacuum", "reindex", "drop"])
def test_every_name_is_quoted(verb):
    work = Work(verb=verb, schema='a"; DROP TABLE x; --', table="b.c", index='d"')
    assert work.sql.endswith('"a""; DROP TABLE x; --"."d"""')
