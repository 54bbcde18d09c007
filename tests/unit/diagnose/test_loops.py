"""What is said of a SELECT in a loop."""

from __future__ import annotations

import pytest

from upshift.diagnose.loops import loop_of
from upshift.record import ObjectLoad


@pytest.mark.parametrize(
    ("sql", "column"),
    [
        ("SELECT a.id FROM a WHERE a.owner_id = ? ORDER BY a.id", "owner_id"),
        ('SELECT a.id FROM a WHERE a."Owner" = %(Owner_1)s', "Owner"),
        ("SELECT a.id FROM a WHERE a.x > 5 AND a.owner = $1::INTEGER", "owner"),
    ],
)
def test_the_fix_names_the_column_that_was_compared(sql, column):
    assert f"Model.{column}.in_(values)" in loop_of(sql, None).fix[0]


def test_without_a_comparison_it_names_the_key():
    assert "Model.id.in_(ids)" in loop_of("SELECT a.id FROM a", None).fix[0]


def test_gets_have_a_helper_of_their_own():
    loop = loop_of("SELECT a.id FROM a WHERE a.id = ?", ObjectLoad("Author", "get"))
    assert loop.what == "session.get(Author, …)"
    assert "upshift.sql.get_many(session, Author, keys)" in loop.fix[0]


def test_refreshes_are_made_together():
    loop = loop_of("SELECT a.id FROM a WHERE a.id = ?", ObjectLoad("Author", "refresh"))
    assert "populate_existing" in loop.fix[0]


def test_a_deferred_column_is_named():
    loop = loop_of("SELECT author.life \nFROM author \nWHERE author.id = ?", ObjectLoad("Author", "columns"))
    assert "undefer(Author.life)" in loop.fix[0]
