from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upshift.sql.catalog import Table, TableName
from upshift.sql.indexes.candidates import MAX_CANDIDATES, propose
from upshift.sql.indexes.index import MAX_COLUMNS, MAX_INCLUDED, IndexColumn
from upshift.sql.statement import UnreadableStatementError, read_statement


def table(
    name: str, columns: str, *indexes: str, unique: str = "", distinct: dict[str, float] | None = None
) -> Table:
    return Table(
        name=name,
        schema="public",
        columns={column: column for column in columns.split()},
        indexes=tuple(tuple(map(IndexColumn, index.split())) for index in (*indexes, unique) if index),
        rows=100_000,
        keys=frozenset([frozenset(unique.split())]) if unique else frozenset(),
        distinct=distinct or {},
    )


EVENT = table("event", "id tenant kind ts price name active")
ORDERS = table("orders", "id user_id placed_at status", unique="id")
ITEM = table("item", "id order_id product_id qty", unique="id")


def candidates(sql: str, *tables: Table, dialect="postgresql") -> list[str]:
    """The candidates that include nothing."""
    known = {TableName(table.name): table for table in tables or (EVENT,)}
    found = propose(read_statement(sql, dialect), known)
    return [str(index).replace(" (", "(", 1) for index in found if not index.include]


def test_an_equality_is_a_candidate():
    assert candidates("SELECT * FROM event WHERE tenant = $1") == ["event(tenant)"]


def test_the_value_may_stand_on_either_side():
    assert candidates("SELECT * FROM event WHERE $1 = tenant") == ["event(tenant)"]


def test_equalities_come_before_a_range():
    assert candidates("SELECT * FROM event WHERE ts > $1 AND tenant = $2")[0] == "event(tenant, ts)"


def test_equalities_come_before_the_order():
    sql = "SELECT * FROM event WHERE tenant = $1 AND kind = $2 ORDER BY ts LIMIT 10"
    assert candidates(sql) == [
        *("event(tenant, kind, ts)", "event(tenant, kind)", "event(tenant)"),
        *("event(kind, tenant, ts)", "event(kind, tenant)", "event(kind)"),
    ]


def test_the_most_selective_equality_comes_first():
    selective = table("event", "tenant kind", distinct={"tenant": 5, "kind": -0.5})
    sql = "SELECT * FROM event WHERE tenant = $1 AND kind = $2"
    assert candidates(sql, selective)[0] == "event(kind, tenant)"


def test_each_equality_may_lead_so_that_statements_may_share_an_index():
    assert "event(kind, tenant)" in candidates("SELECT * FROM event WHERE tenant = $1 AND kind = $2")


def test_an_order_that_is_descending_throughout_is_read_backwards():
    assert candidates("SELECT * FROM event ORDER BY ts DESC, id DESC LIMIT 10")[0] == "event(ts, id)"


def test_after_equalities_the_order_keeps_its_directions():
    sql = "SELECT * FROM event WHERE tenant = $1 ORDER BY ts DESC, id DESC LIMIT 10"
    assert candidates(sql)[0] == "event(tenant, ts DESC, id DESC)"


def test_an_order_of_mixed_directions_keeps_them():
    sql = "SELECT * FROM event WHERE tenant = $1 ORDER BY ts DESC, id LIMIT 10"
    assert candidates(sql)[0] == "event(tenant, ts DESC, id)"


def test_an_unusual_place_for_nulls_is_kept_on_postgres():
    sql = "SELECT * FROM event ORDER BY ts DESC NULLS LAST LIMIT 10"
    assert candidates(sql) == ["event(ts DESC NULLS LAST)"]


def test_an_unusual_place_for_nulls_cannot_be_served_by_sqlite():
    assert candidates("SELECT * FROM event ORDER BY ts NULLS LAST LIMIT 10", dialect="sqlite") == []


def test_an_order_alone_is_a_candidate_only_with_a_limit():
    assert candidates("SELECT * FROM event ORDER BY ts LIMIT 10") == ["event(ts)"]
    assert candidates("SELECT * FROM event ORDER BY ts") == []


def test_an_order_by_a_column_that_is_fixed_is_dropped():
    assert (
        candidates("SELECT * FROM event WHERE tenant = $1 ORDER BY tenant, ts LIMIT 1")[0]
        == "event(tenant, ts)"
    )


def test_an_order_by_an_alias_of_a_column_is_that_column():
    assert candidates("SELECT ts AS happened FROM event ORDER BY happened LIMIT 1") == ["event(ts)"]


def test_an_order_by_an_expression_ends_the_order():
    assert candidates("SELECT * FROM event ORDER BY ts, abs(price), id LIMIT 1") == ["event(ts)"]


@pytest.mark.parametrize("clause", ["GROUP BY kind ORDER BY kind", "ORDER BY count(*)"])
def test_an_order_of_groups_is_no_candidate(clause):
    assert candidates(f"SELECT kind, count(*) FROM event {clause} LIMIT 3") == []


@pytest.mark.parametrize(
    "condition",
    [
        "tenant IN ($1,$2)",
        "tenant = ANY ($1)",
        "tenant IS NULL",
        "tenant IS NOT DISTINCT FROM $1",
        "tenant = $1 OR tenant = $2",
        "(tenant = $1)",
        "tenant IN (SELECT 1)",
    ],
)
def test_conditions_that_are_lookups(condition):
    assert candidates(f"SELECT * FROM event WHERE {condition}") == ["event(tenant)"]


@pytest.mark.parametrize("condition", ["active", "NOT active", "active IS true", "active = false"])
def test_a_boolean_column_is_a_lookup(condition):
    assert candidates(f"SELECT * FROM event WHERE {condition}") == ["event(active)"]


@pytest.mark.parametrize(
    "condition", ["price BETWEEN 1 AND 2", "price < $1", "5 <= price", "(price, id) > ($1, $2)"]
)
def test_conditions_that_are_ranges(condition):
    assert candidates(f"SELECT * FROM event WHERE {condition}") == ["event(price)"]


@pytest.mark.parametrize(
    "condition",
    [
        "tenant <> $1",
        "tenant NOT IN (1, 2)",
        "tenant IS NOT NULL",
        "tenant = $1 OR kind = $2",
        "tenant = $1 OR $2 = kind",
        "abs(price) = $1",
        "tenant = tenant",
        "name ILIKE 'x%'",
        "name NOT LIKE 'x%'",
        "name LIKE '%x'",
        "name LIKE '_x'",
        "NOT (tenant = 1)",
        "tenant IS NOT true",
    ],
)
def test_conditions_that_no_such_index_serves(condition):
    assert candidates(f"SELECT * FROM event WHERE {condition}") == []


@pytest.mark.parametrize("pattern", ["'x%'", "$1", "$1::VARCHAR || '%'", "'x%' ESCAPE '/'"])
def test_a_like_that_may_have_a_prefix_takes_pattern_operators_on_postgres(pattern):
    assert candidates(f"SELECT * FROM event WHERE name LIKE {pattern}") == ["event(name text_pattern_ops)"]


def test_a_row_of_columns_in_a_list_is_several_lookups():
    sql = "SELECT * FROM event WHERE (tenant, kind) IN (($1,$2),($3,$4))"
    assert candidates(sql)[0] == "event(tenant, kind)"


def test_both_sides_of_a_join_are_candidates_unless_they_are_keys():
    sql = "SELECT * FROM orders JOIN item ON item.order_id = orders.id WHERE orders.user_id = $1"
    assert candidates(sql, ORDERS, ITEM) == ["orders(user_id)", "item(order_id)"]


def test_a_join_column_comes_before_the_equalities_of_its_table():
    sql = "SELECT * FROM orders o JOIN item i ON i.order_id = o.id WHERE i.qty = $1"
    assert "item(order_id, qty)" in candidates(sql, ORDERS, ITEM)


def test_a_correlated_subquery_is_a_join():
    sql = "SELECT id, (SELECT sum(qty) FROM item WHERE item.order_id = orders.id) FROM orders"
    assert candidates(sql, ORDERS, ITEM) == ["item(order_id)"]


def test_a_table_joined_to_itself_is_reached_in_two_ways():
    sql = "SELECT * FROM event a JOIN event b ON b.name = a.name WHERE a.tenant = $1 AND b.kind = $2"
    found = candidates(sql)
    assert "event(tenant)" in found
    assert "event(name, kind)" in found
    assert not any("tenant, kind" in each for each in found)


def test_an_unqualified_column_belongs_to_the_table_that_has_it():
    sql = "SELECT * FROM orders, item WHERE user_id = $1 AND product_id = $2"
    assert candidates(sql, ORDERS, ITEM) == ["orders(user_id)", "item(product_id)"]


def test_the_rows_that_an_update_or_delete_changes_are_looked_up():
    assert candidates("UPDATE event SET kind = $1 WHERE tenant = $2") == ["event(tenant)"]
    assert candidates("DELETE FROM event WHERE ts < $1") == ["event(ts)"]
    assert candidates("DELETE FROM item USING orders WHERE item.order_id = orders.id", ORDERS, ITEM) == [
        "item(order_id)"
    ]


def test_conditions_inside_common_table_expressions_and_unions_count():
    sql = (
        "WITH a AS (SELECT * FROM event WHERE tenant = 1 UNION ALL SELECT * FROM event WHERE kind = 'x') "
        "SELECT * FROM a"
    )
    assert candidates(sql) == ["event(tenant)", "event(kind)"]


def test_an_index_that_exists_is_not_proposed_again():
    assert candidates("SELECT * FROM event WHERE tenant = 1", table("event", "tenant", "tenant")) == []


def test_a_prefix_of_an_index_that_exists_is_not_proposed():
    assert (
        candidates("SELECT * FROM event WHERE tenant = 1", table("event", "tenant kind", "tenant kind")) == []
    )


def test_an_index_that_exists_may_be_widened():
    known = table("event", "tenant kind", "tenant")
    assert (
        candidates("SELECT * FROM event WHERE tenant = 1 AND kind = 'x'", known)[0] == "event(tenant, kind)"
    )


def test_nothing_is_proposed_for_a_lookup_by_key():
    assert candidates("SELECT * FROM orders WHERE id = $1 AND status = $2", ORDERS) == []


def test_sqlite_finds_tables_and_columns_in_any_case():
    known = Table("Order", "main", {"userid": "UserId"}, (), rows=5_000)
    statement = read_statement('SELECT * FROM "ORDER" WHERE USERID = ?', "sqlite")
    (index,) = propose(statement, {TableName("order"): known})
    assert (index.table, index.columns) == ("Order", (IndexColumn("UserId"),))


WORDS = st.sampled_from(
    re.split(
        r"\s+",
        """
        tenant kind ts price name active event e2 item order_id $1 $2 'x%' 1 = < > <= ( ) , . * || + ::int
        SELECT FROM WHERE AND OR NOT IN BETWEEN LIKE IS NULL ORDER BY LIMIT DESC GROUP JOIN ON LEFT UNION
        WITH AS EXISTS DISTINCT
        """.strip(),
    )
)


@given(st.lists(WORDS, max_size=30).map(" ".join), st.sampled_from(["postgresql", "sqlite"]))
def test_whatever_a_statement_says_candidates_have_columns_of_their_table(words, dialect):
    for sql in (
        f"SELECT * FROM event WHERE {words}",
        f"SELECT * FROM event e2, item {words}",
        f"DELETE {words}",
    ):
        try:
            statement = read_statement(sql, dialect)
        except UnreadableStatementError:
            continue
        known = {TableName("event"): EVENT, TableName("item"): ITEM}
        found = propose(statement, known)
        assert len(found) <= MAX_CANDIDATES
        assert len(set(found)) == len(found)
        for index in found:
            columns = [column.name for column in index.columns]
            assert 1 <= len(columns) <= MAX_COLUMNS
            assert len(set(columns)) == len(columns)
            assert set(columns) <= set(known[TableName(index.table)].columns)
            assert not known[TableName(index.table)].has_index(index)


def proposed(
    sql: str, known: Table = EVENT, dialect="postgresql", **constants: str | int | bool
) -> list[str]:
    found = propose(read_statement(sql, dialect), {TableName(known.name): known}, constants)
    return list(map(str, found))


DOCUMENT = replace(
    table("document", "id title body tags data state owner closed_at placed", unique="id"),
    types={
        "tags": "_text",
        "data": "jsonb",
        "title": "text",
        "placed": "timestamp",
        "closed_at": "timestamptz",
    },
    distinct={"state": 4, "owner": 900},
    common={"owner": {"5": 0.01}, "state": {"failed": 0.01, "done": 0.95}},
    nulls={"closed_at": 0.05},
    has_trigrams=True,
)


def test_the_columns_that_a_statement_reads_may_be_carried_by_the_index():
    found = proposed("SELECT kind, sum(price) FROM event WHERE tenant = $1 GROUP BY kind")
    assert "event (tenant) include (kind, price)" in found


@pytest.mark.parametrize("selected", ["*", "event.*", "id, tenant, kind, ts, price, name, active, count(*)"])
def test_what_reads_all_or_nearly_all_columns_has_them_carried_by_no_index(selected):
    wide = table("event", "id tenant kind ts price name active a b c")
    found = proposed(f"SELECT {selected} FROM event WHERE a = 1 AND b = 2 AND c = 3 GROUP BY id", wide)
    assert not [each for each in found if "include" in each and each.count(",") > MAX_INCLUDED]
    assert selected[0] == "i" or not [each for each in found if "include" in each]


@pytest.mark.parametrize(
    ("widths", "carried"),
    [
        ({"kind": 4, "price": 8, "name": 60}, True),
        ({"kind": 40, "price": 30, "name": 900}, False),
        ({"kind": 10, "price": 10, "name": 10}, False),
    ],
    ids=["narrow", "wide", "most of the row"],
)
def test_only_narrow_columns_are_carried(widths, carried):
    known = replace(EVENT, widths=widths)
    found = proposed("SELECT kind, sum(price) FROM event WHERE tenant = $1 GROUP BY kind", known)
    assert ("event (tenant) include (kind, price)" in found) is carried


def test_sqlite_carries_none():
    found = proposed("SELECT kind FROM event WHERE tenant = ?", dialect="sqlite")
    assert found == ["event (tenant)"]


def test_a_function_of_a_column_is_a_key():
    assert proposed("SELECT * FROM event WHERE lower(name) = $1") == ["event (lower(name))"]
    found = proposed("SELECT * FROM document WHERE date_trunc('month', placed) = $1", DOCUMENT)
    assert found == ["document (month(placed))"]
    assert proposed("SELECT * FROM document WHERE placed::date = $1", DOCUMENT) == ["document (date(placed))"]
    assert proposed("SELECT * FROM event WHERE date(ts) = ?", dialect="sqlite") == ["event (date(ts))"]


def test_the_unit_of_a_time_may_be_a_parameter_that_never_changes():
    sql = "SELECT * FROM document WHERE date_trunc($1, placed) = $2"
    assert proposed(sql, DOCUMENT) == []
    assert proposed(sql, DOCUMENT, p1="day") == ["document (day(placed))"]
    assert proposed(sql, DOCUMENT, p1="day'); DROP TABLE x; --") == []


def test_the_date_of_a_moment_depends_on_the_time_zone_and_is_no_key():
    assert proposed("SELECT * FROM document WHERE closed_at::date = $1", DOCUMENT) == []


@pytest.mark.parametrize("condition", ["title LIKE '%x%'", "title ILIKE $1", "title LIKE '%' || $1 || '%'"])
def test_a_part_of_a_text_is_found_by_trigrams(condition):
    found = proposed(f"SELECT * FROM document WHERE {condition}", DOCUMENT)
    assert "document using gin (title gin_trgm_ops)" in found


def test_without_pg_trgm_it_is_not():
    known = replace(DOCUMENT, has_trigrams=False)
    assert proposed("SELECT * FROM document WHERE title ILIKE $1", known) == []


@pytest.mark.parametrize(
    ("condition", "index"),
    [
        ("data @> $1", "document using gin (data jsonb_path_ops)"),
        ("tags @> $1", "document using gin (tags)"),
        ("tags && $1", "document using gin (tags)"),
        ("$1 <@ tags", "document using gin (tags)"),
    ],
)
def test_a_part_of_an_array_or_a_document_is_found_by_gin(condition, index):
    assert proposed(f"SELECT * FROM document WHERE {condition}", DOCUMENT) == [index]


@pytest.mark.parametrize(
    ("condition", "constants", "index"),
    [
        ("state = 'failed' AND owner = $1", {}, "document (owner) where state = 'failed'"),
        ("state = $2 AND owner = $1", {"p2": "failed"}, "document (owner) where state = 'failed'"),
        ("closed_at IS NULL AND owner = $1", {}, "document (owner) where closed_at is null"),
        ("state = 'failed'", {}, "document (state) where state = 'failed'"),
    ],
)
def test_a_condition_that_never_changes_and_is_rare_bounds_the_index(condition, constants, index):
    assert index in proposed(f"SELECT * FROM document WHERE {condition}", DOCUMENT, **constants)


@pytest.mark.parametrize(
    ("condition", "constants"),
    [
        ("state = 'done' AND owner = $1", {}),
        ("state = 'unknown' AND owner = $1", {}),
        ("state = $2 AND owner = $1", {}),
        ("owner = 5 AND title = $1", {}),
        ("closed_at IS NOT NULL AND owner = $1", {}),
        ("state = $2 AND owner = $1", {"p2": "failed\\"}),
    ],
    ids=[
        "frequent",
        "of unknown frequency",
        "not constant",
        "of many values",
        "not null",
        "not in the vocabulary",
    ],
)
def test_other_conditions_do_not(condition, constants):
    found = proposed(f"SELECT * FROM document WHERE {condition}", DOCUMENT, **constants)
    assert found
    assert not [each for each in found if "where" in each]
