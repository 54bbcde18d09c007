from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upshift.sql.placeholders import Sample, name_placeholders, number


def test_named_placeholders_are_numbered_by_first_appearance():
    assert number(Sample("SELECT %(b)s, %(a)s, %(b)s"), "pyformat").sql == "SELECT $1, $2, $1"


def test_positional_placeholders_are_numbered_in_order():
    assert number(Sample("SELECT %s, %s"), "format").sql == "SELECT $1, $2"


def test_doubled_percent_signs_are_the_drivers_escape():
    assert (
        number(Sample("SELECT 5 %% 2 WHERE a LIKE 'x%%'"), "pyformat").sql == "SELECT 5 % 2 WHERE a LIKE 'x%'"
    )


def test_a_statement_of_a_pyformat_driver_is_sent_with_values_as_it_was():
    numbered = number(Sample("SELECT %(a)s", {"a": 1}), "pyformat")
    assert (numbered.bound_sql, numbered.values) == ("SELECT %(a)s", {"a": 1})


def test_dollars_stay_and_are_named_for_the_driver_that_sends_values():
    numbered = number(Sample("SELECT $1::INTEGER, 5 % 2, $2", (1, "x")), "numeric_dollar")
    assert numbered.sql == "SELECT $1::INTEGER, 5 % 2, $2"
    assert numbered.bound_sql == "SELECT %(p1)s::INTEGER, 5 %% 2, %(p2)s"
    assert numbered.values == {"p1": 1, "p2": "x"}


@pytest.mark.parametrize("quoted", ["'$1'", '"$1"', "'it''s $1'", '"a""$1"', "'never closed $1"])
def test_a_dollar_in_quotes_is_no_placeholder(quoted):
    assert not number(Sample(f"SELECT {quoted}"), "numeric_dollar").has_placeholders
    assert name_placeholders(f"SELECT {quoted}") == f"SELECT {quoted}"


@pytest.mark.parametrize("parameters", [None, (), {}])
def test_without_parameters_there_are_no_values(parameters):
    assert number(Sample("SELECT 1", parameters), "pyformat").values is None
    assert number(Sample("SELECT 1", parameters), "numeric_dollar").values is None


@given(st.text(), st.sampled_from(["pyformat", "format", "numeric_dollar"]))
def test_any_text_is_numbered_without_a_fault(sql, paramstyle):
    number(Sample(sql), paramstyle)


@pytest.mark.timeout(10)
@pytest.mark.parametrize("text", ["'" * 100_001, '"' * 100_001, "%" * 100_001, "$" * 100_001, "%(" * 50_000])
def test_hostile_text_takes_linear_time(text):
    number(Sample(text), "numeric_dollar")
    number(Sample(text), "pyformat")
