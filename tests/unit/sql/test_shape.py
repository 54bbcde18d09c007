"""What is understood of a statement's text, in the placeholders of each driver."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upshift.sql.shape import Wrapped, read_shape
from upshift.sql.shapes import MAX_TEXTS, Shapes


@pytest.mark.parametrize("place", ["?", "%(x)s", "%s", "$1", "$1::INTEGER"])
def test_a_count_and_a_page_of_the_same_rows_have_the_same_filter(place):
    counted = read_shape(f"SELECT count(*) AS count_1 FROM a WHERE a.x = {place}").counted
    page = (
        f"SELECT a.id, b.id FROM a LEFT OUTER JOIN b ON b.id = a.b WHERE a.x = {place} ORDER BY a.id LIMIT 5"
    )
    assert counted in read_shape(page).paged


def test_a_count_of_a_subquery_counts_its_rows():
    inner = "SELECT a.id AS id FROM a WHERE a.x = ?"
    counted = read_shape(f"SELECT count(*) FROM ({inner}) AS anon_1").counted
    assert read_shape(f"{inner} LIMIT ?").paged == {counted}


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT count(*) FROM (SELECT a.id FROM a LIMIT 5) AS b",
        "SELECT a.x, count(*) FROM a GROUP BY a.x",
        "SELECT count(*) FROM a GROUP BY a.x",
        "SELECT a.x FROM a",
    ],
)
def test_what_counts_something_else_is_no_count(sql):
    assert read_shape(sql).counted is None


def test_unions_have_no_filter_that_another_could_have():
    union = "SELECT a.x FROM a UNION SELECT b.x FROM b"
    assert read_shape(f"{union} LIMIT 5").paged == frozenset()
    assert read_shape(f"SELECT count(*) FROM ({union}) AS c").counted is None


@pytest.mark.parametrize(
    ("sql", "is_whole"),
    [
        ("SELECT a.x FROM a", True),
        ("SELECT a.x FROM a WHERE a.y = ? ORDER BY a.x", True),
        ("SELECT a.x, row_number() OVER (ORDER BY a.x) FROM a", True),
        ("SELECT a.x FROM a LIMIT ?", False),
        ("SELECT a.x FROM a FETCH FIRST 5 ROWS ONLY", False),
        ("SELECT max(a.x) FROM a", False),
        ("SELECT a.x FROM a GROUP BY a.x", False),
        ("SELECT DISTINCT a.x FROM a", False),
        ("SELECT a.x FROM a WHERE a.y IN (?, ?)", False),
        ("SELECT a.x FROM a WHERE a.y = ANY($1)", False),
        ("SELECT b.x FROM (SELECT a.x FROM a LIMIT 5) AS b", False),
        ("SELECT 1", False),
    ],
)
def test_a_result_is_whole_where_nothing_in_the_text_bounds_it(sql, is_whole):
    assert read_shape(sql).is_whole is is_whole


def test_patterns_are_told_by_how_they_begin():
    assert read_shape("SELECT x FROM a WHERE a.n LIKE '%' || ? || '%'").open_patterns == ("n",)
    assert read_shape("SELECT x FROM a WHERE lower(a.n) LIKE '%' || lower(?) || '%'").open_patterns == ("n",)
    assert read_shape("SELECT x FROM a WHERE a.n LIKE ? || '%'").open_patterns == ()
    assert read_shape("SELECT x FROM a WHERE a.n NOT LIKE ?").patterns == ("n",)


@pytest.mark.parametrize(
    ("condition", "wrapped"),
    [
        ("lower(a.email) = ?", [Wrapped("a", "email", "LOWER(email)")]),
        ("? = a.email", []),
        ("a.email = lower(?)", []),
        ("date(a.born) >= ? AND a.x = 1", [Wrapped("a", "born", "DATE(born)")]),
        ("lower(a.email) = lower(a.other)", []),
        ("coalesce(a.x, a.y) = ?", []),
        ("CASE WHEN a.x > 1 THEN 1 END = ?", []),
        ("a.x + 1 = ?", []),
    ],
)
def test_a_function_of_one_column_that_is_compared_with_a_value_is_told(condition, wrapped):
    assert list(read_shape(f"SELECT a.id FROM a WHERE {condition}").wrapped) == wrapped


def test_the_table_is_told_by_its_name_and_not_by_its_alias():
    (wrapped,) = read_shape("SELECT u.id FROM users AS u WHERE lower(u.email) = ?").wrapped
    assert wrapped.table == "users"


@pytest.mark.parametrize(
    "sql", ["", "INSERT INTO a VALUES (1)", "UPDATE a SET x = 1", "SELECT (", "SELECT 1; SELECT 2", "\0"]
)
def test_of_what_is_no_select_or_not_understood_nothing_is_known(sql):
    assert read_shape(sql) is None


@given(st.text(max_size=40))
def test_no_text_raises(text):
    read_shape("SELECT " + text)
    read_shape(text)


def test_a_text_is_understood_once_and_memory_is_bounded(monkeypatch):
    shapes = Shapes()
    assert shapes.of("SELECT a FROM b") is shapes.of("SELECT a FROM b")
    monkeypatch.setattr("upshift.sql.shape.read_shape", lambda _: None)
    for number in range(MAX_TEXTS + 10):
        shapes.of(f"SELECT {number}")
    assert len(shapes._by_text) <= MAX_TEXTS


def test_without_sqlglot_nothing_is_known(monkeypatch):
    monkeypatch.setitem(sys.modules, "upshift.sql.shape", None)
    assert Shapes().of("SELECT a FROM b") is None
