"""Nothing that could write or lock is taken for a reading text; not to prove a reading one is no fault."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upshift.sql.replicas.plain_text import MAX_LENGTH, reads_only

KNOWN = frozenset({"count", "lower", "max"})

READING = [
    "SELECT 1",
    "  (select 1) union (select 2)",
    "SELECT * FROM item WHERE id = :id AND name LIKE 'a%'",
    "SELECT count(*), max(id) FROM item GROUP BY lower(name) HAVING count(*) > 1",
    "WITH recent AS (SELECT 1) SELECT * FROM recent",
    "VALUES (1), (2)",
    "TABLE item",
    "SELECT 'DELETE FROM item' AS text",
    "SELECT 'it''s', \"update\" FROM item",
    "SELECT cast(id AS varchar(20)), coalesce(name, '') FROM item WHERE id IN (1, 2) AND NOT (a OR b)",
    "SELECT numeric(10, 2) '1.5'",
]

WRITING = [
    "",
    "INSERT INTO item VALUES (1)",
    "UPDATE item SET name = ''",
    "DELETE FROM item",
    "MERGE INTO item USING x ON true WHEN MATCHED THEN DELETE",
    "SELECT 1; DELETE FROM item",
    "SELECT * INTO copied FROM item",
    "SELECT * FROM item FOR UPDATE",
    "SELECT * FROM item FOR NO KEY UPDATE SKIP LOCKED",
    "SELECT * FROM item FOR SHARE",
    "WITH gone AS (DELETE FROM item RETURNING id) SELECT * FROM gone",
    "SELECT nextval('item_id')",
    "SELECT pg_catalog.nextval('item_id')",
    "SELECT pg_catalog . nextval ('item_id')",
    "SELECT \"nextval\"('item_id')",
    'SELECT "pg_catalog"."nextval" (\'item_id\')',
    "SELECT nextval\n('item_id')",
    "SELECT nextval/**/('item_id')",
    "SELECT nextval -- ends here\n('item_id')",
    "SELECT E'\\'' || nextval('item_id') || '\\''",
    "SELECT $$text$$ || nextval('item_id')",
    "SELECT 'open",
    'SELECT "open',
    "SELECT '' || nextval('item_id') || ''",
    "SELECT 1 WHERE 'a' = 'b' OR nextval('item_id') > 0",
    "SELECT unknown(1)",
    "SELECT pg_advisory_lock(1)",
    "SELECT set_config('role', 'x', false)",
    'SELECT U&"\\0061"(1)',
    "SET ROLE clerk",
    "LOCK TABLE item",
    "CALL change()",
    "DO 'BEGIN END'",
    "COPY item FROM STDIN",
    "EXPLAIN ANALYZE DELETE FROM item",
    "TRUNCATE item",
    "BEGIN",
    "SHOW all",
    "SELECT\0 1",
]


@pytest.mark.parametrize("sql", READING)
def test_a_text_that_reads_is_proved(sql):
    assert reads_only(sql, KNOWN)


@pytest.mark.parametrize("sql", WRITING)
def test_a_text_that_may_write_is_not(sql):
    assert not reads_only(sql, KNOWN)


@pytest.mark.parametrize("sql", WRITING[:-1])
def test_no_more_so_in_upper_or_lower_case(sql):
    assert not reads_only(sql.upper(), KNOWN)
    assert not reads_only(sql.lower(), KNOWN)


blank = st.sampled_from([" ", "\t", "\n", "\r\n", "\f", "  "])
before = st.sampled_from(
    ["SELECT 1, ", "SELECT ", "WITH a AS (SELECT 1) SELECT ", "VALUES (1), ", "SELECT '' || "]
)


@given(
    before,
    blank,
    st.sampled_from(["nextval", "NextVal", "pg_catalog.nextval", '"nextval"', "żółw", "a1"]),
    blank,
)
def test_a_call_is_seen_through_any_blanks(start, one, function, other):
    assert not reads_only(f"{start}{one}{function}{other}('x')", KNOWN)


@given(st.text(max_size=300))
def test_any_text_gets_an_answer(text):
    assert reads_only(text, KNOWN) in {True, False}
    assert not reads_only(f"SELECT 1; {text}", KNOWN)


def test_a_huge_text_is_not_looked_at():
    assert not reads_only("SELECT 1" + " " * MAX_LENGTH, KNOWN)


def test_a_fragment_need_not_begin_with_a_keyword():
    assert reads_only("name DESC", KNOWN, is_fragment=True)
    assert not reads_only("name DESC FOR UPDATE", KNOWN, is_fragment=True)
