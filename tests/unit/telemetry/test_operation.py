"""The first word of a statement, whatever stands before it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upshift.telemetry.operation import operation_of


@pytest.mark.parametrize(
    ("sql", "operation"),
    [
        ("SELECT 1", "SELECT"),
        ("SELECT\n 1", "SELECT"),
        ("\n\t select\t1", "SELECT"),
        ("SELECT*FROM orders", "SELECT"),
        ("-- why\nUPDATE orders SET a = 1", "UPDATE"),
        ("/* why */ /* SELECT */ insert into orders", "INSERT"),
        ("((SELECT 1) UNION SELECT 2)", "SELECT"),
        ("CALL;", "CALL"),
        ("", ""),
        ("?", ""),
        ("7 SELECT", ""),
        ("-- SELECT", ""),
        ("/* SELECT", ""),
    ],
)
def test_it_is_the_first_word_in_upper_case(sql, operation):
    assert operation_of(sql) == operation


@pytest.mark.parametrize("part", ["/*", "/* */", "--\n", "--", "(", " ", "/"])
def test_a_hostile_text_is_read_once(part):
    assert operation_of(part * 200_000) == ""


@given(before=st.lists(st.sampled_from([" ", "\n", "(", "-- x\n", "/* x */", "/**/"])), after=st.text())
def test_what_is_before_it_changes_nothing(before, after):
    assert operation_of("".join(before) + "delete " + after) == "DELETE"
