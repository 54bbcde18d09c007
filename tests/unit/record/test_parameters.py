"""What is told of parameters when they are let go of."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upshift.record import Statement
from upshift.record.parameters import MAX_TEXT, note_parameters


def statement(sql, bound):
    each = Statement(sql, 0.0)
    each.bound = bound
    return each


def test_only_texts_that_occur_more_than_once_are_told_apart():
    once, twice, again = (statement(f"SELECT {name}", (1,)) for name in "abb")
    note_parameters([once, twice, again])
    assert once.fingerprint is None
    assert twice.fingerprint == again.fingerprint == 0


def test_different_parameters_are_numbered_as_they_came_and_nothing_else_is_told_of_them():
    asked = [statement("SELECT a", bound) for bound in (("Mei",), ("Ling",), ("Mei",), ([1],), (1,), (True,))]
    note_parameters(asked)
    assert [each.fingerprint for each in asked] == [0, 1, 0, None, 2, 3]


def test_parameters_are_let_go_of_and_twice_changes_nothing():
    both = [statement("SELECT a", (1,)), statement("SELECT a", (2,))]
    note_parameters(both)
    told = [each.fingerprint for each in both]
    note_parameters(both)
    assert [each.bound for each in both] == [None, None]
    assert [each.fingerprint for each in both] == told
    assert len(set(told)) == 2


def told(sql, bound):
    each = statement(sql, bound)
    note_parameters([each])
    return each


@pytest.mark.parametrize(
    ("sql", "bound"),
    [
        ("SELECT a FROM t WHERE b = ? LIMIT ? OFFSET ?", (1, 20, 12_345)),
        ("SELECT a FROM t WHERE b = %(b)s LIMIT %(x)s OFFSET %(y)s", {"b": 1, "x": 20, "y": 12_345}),
        ("SELECT a FROM t WHERE b = $1 LIMIT $3::INTEGER OFFSET $2::INTEGER", (1, 12_345, 20)),
        ("SELECT a FROM t WHERE b = %s LIMIT %s OFFSET %s", (1, 20, 12_345)),
        ("SELECT a FROM t LIMIT 20 OFFSET 12345", ()),
        ("SELECT a FROM (SELECT a FROM t LIMIT ? OFFSET ?) AS x WHERE a = ?", (20, 12_345, 1)),
        ("SELECT a FROM t OFFSET ? UNION SELECT a FROM t OFFSET ?", (7, 12_345)),
    ],
)
def test_of_an_offset_the_first_digit_is_told_in_each_style_of_parameters(sql, bound):
    assert told(sql, bound).offset == 10_000


@pytest.mark.parametrize(
    ("sql", "bound"),
    [
        ("SELECT a FROM t OFFSET ?", (0,)),
        ("SELECT a FROM t OFFSET ?", (-5,)),
        ("SELECT a FROM t OFFSET ?", ("7",)),
        ("SELECT a FROM t OFFSET ?", (None,)),
        ("SELECT a FROM t OFFSET ?", (1 << 9_999,)),
        ("SELECT a FROM t OFFSET $2", (7,)),
        ("SELECT a FROM t OFFSET %(x)s", {}),
        ("SELECT '?' FROM t OFFSET ?", (7,)),
        ("SELECT a FROM t OFFSET (SELECT ?)", (7,)),
        ("SELECT a FROM t" + " " * MAX_TEXT + "OFFSET ?", (7,)),
    ],
)
def test_what_is_no_offset_or_cannot_be_told_is_none(sql, bound):
    assert told(sql, bound).offset == 0


@pytest.mark.parametrize(
    ("sql", "bound", "is_open"),
    [
        ("SELECT a FROM t WHERE a LIKE ?", ("%x",), True),
        ("SELECT a FROM t WHERE a ILIKE %(a)s", {"a": "_x"}, True),
        ("SELECT a FROM t WHERE a NOT LIKE $1::VARCHAR", ("%x",), True),
        ("SELECT a FROM t WHERE a LIKE ?", ("x%",), False),
        ("SELECT a FROM t WHERE a LIKE ? AND b = ?", ("x%", "%"), False),
        ("SELECT a FROM t WHERE a LIKE ?", (None,), False),
        ("SELECT a FROM t WHERE a = ?", ("%x",), False),
    ],
)
def test_a_pattern_is_told_by_how_it_begins(sql, bound, is_open):
    assert told(sql, bound).has_open_pattern is is_open


@given(st.text(), st.lists(st.integers() | st.text(), max_size=3))
def test_no_text_and_no_parameters_raise(text, bound):
    told("SELECT a LIKE ? OFFSET ? " + text, tuple(bound))
