"""Keys of rows: what may be equal in the database has one text, or none."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from enum import Enum as PythonEnum
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import (
    BigInteger,
    Boolean,
    Date,
    DateTime,
    Enum,
    Float,
    Integer,
    Numeric,
    String,
    TypeDecorator,
    Uuid,
)
from sqlalchemy.dialects import mysql, postgresql

from upshift.cache.dependencies.names import row_tag, rows_tag, table_of_row, table_tag
from upshift.cache.dependencies.rows import (
    MAX_KEY,
    Fixed,
    Kind,
    Parameters,
    key_part,
    kind_of,
    pin_of,
    row_tags,
)


class Lowered(TypeDecorator):
    impl = String
    cache_ok = True


class Color(PythonEnum):
    RED = "red"


@pytest.mark.parametrize(
    ("column_type", "kind"),
    [
        (Integer(), Kind.WHOLE),
        (BigInteger(), Kind.WHOLE),
        (mysql.INTEGER(unsigned=True), Kind.WHOLE),
        (String(20), Kind.TEXT),
        (Uuid(), Kind.UUID),
        (postgresql.UUID(), Kind.UUID),
        (Date(), Kind.DATE),
        (Lowered(), None),
        (Enum(Color), None),
        (Enum("a", "b"), None),
        (mysql.SET("a", "b"), None),
        (Boolean(), None),
        (Float(), None),
        (Numeric(), None),
        (DateTime(), None),
        (postgresql.INET(), None),
    ],
)
def test_only_types_whose_equality_is_known_make_keys(column_type, kind):
    assert kind_of(column_type) is kind


@pytest.mark.parametrize(
    ("kind", "equal"),
    [
        (Kind.WHOLE, [7, "7", "+7", "007", Decimal(7), Decimal("7.00"), Decimal("0.7E1")]),
        (Kind.TEXT, ["North", "north", "NORTH  "]),
        (
            Kind.UUID,
            [
                UUID(int=5), UUID(int=5).hex, str(UUID(int=5)).upper(), "{" + str(UUID(int=5)) + "}",
            ],
        ),
    ],
)  # fmt: skip
def test_what_the_database_may_take_for_equal_has_one_text(kind, equal):
    assert len({key_part(kind, each) for each in equal}) == 1
    assert key_part(kind, equal[0]) is not None


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Kind.WHOLE, None),
        (Kind.WHOLE, True),
        (Kind.WHOLE, 0),
        (Kind.WHOLE, "-0"),
        (Kind.WHOLE, 7.0),
        (Kind.WHOLE, " 7"),
        (Kind.WHOLE, "7.0"),
        (Kind.WHOLE, "\N{ARABIC-INDIC DIGIT SEVEN}"),
        (Kind.WHOLE, Decimal("7.5")),
        (Kind.WHOLE, Decimal("NaN")),
        (Kind.WHOLE, Decimal("1E+999999")),
        (Kind.WHOLE, 1 << 70),
        (Kind.WHOLE, "9" * 99),
        (Kind.TEXT, 7),
        (Kind.TEXT, b"a"),
        (Kind.TEXT, "é"),
        (Kind.TEXT, "a\x00"),
        (Kind.TEXT, "a" * (MAX_KEY + 1)),
        (Kind.TEXT, Color.RED),
        (Kind.UUID, "no uuid"),
        (Kind.UUID, 5),
        (Kind.DATE, dt.datetime(2026, 1, 1, tzinfo=dt.UTC)),
        (Kind.DATE, "2026-01-01"),
    ],
)
def test_a_value_whose_equals_are_not_known_makes_no_key(kind, value):
    assert key_part(kind, value) is None


NUMBERS = st.integers(-(2**63), 2**63 - 1).filter(bool)


@given(NUMBERS, NUMBERS)
def test_different_numbers_have_different_texts(one, other):
    assert (key_part(Kind.WHOLE, one) == key_part(Kind.WHOLE, other)) == (one == other)


@given(st.text(min_size=1), st.text())
def test_a_row_tells_its_table_whatever_the_names(table, key):
    assert table_of_row(row_tag(table, key)) == table_tag(table)
    assert table_of_row(rows_tag(table)) == table_tag(table)
    assert table_of_row(table_tag(table)) is None


def test_parts_of_a_key_do_not_run_into_each_other():
    def tags(*parts):
        columns = tuple((Kind.TEXT, (Fixed(part),)) for part in parts)
        return row_tags(pin_of("t", columns), Parameters(((),), {}))

    assert tags("a:b", "c") != tags("a", "b:c")
