"""Which parameters are told to be equal."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta, tzinfo
from decimal import Decimal
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upshift.record.fingerprint import MAX_PARAMETERS, MAX_VALUE, comparable

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.decimals(allow_nan=False)
    | st.datetimes()
    | st.dates()
    | st.times()
    | st.timedeltas()
    | st.uuids()
)


@given(st.lists(SCALARS, max_size=5), st.lists(SCALARS, max_size=5))
def test_texts_are_equal_for_equal_parameters_only(one, other):
    same = [*map(repr, one)] == [*map(repr, other)]
    assert comparable(tuple(one)) is not None
    assert (comparable(tuple(one)) == comparable(tuple(other))) is same


def test_the_values_of_a_mapping_count():
    assert comparable({"id_1": 7}) == comparable((7,)) != comparable({"id_1": 8})


@pytest.mark.parametrize(
    "value",
    [
        Decimal("1.50"),
        datetime(2026, 1, 1, tzinfo=UTC),
        datetime(2026, 1, 1, tzinfo=ZoneInfo("Asia/Taipei")),
        date(2026, 1, 1),
        time(1, 2),
        timedelta(1),
        UUID(int=7),
        "\ud800",
    ],
)
def test_what_applications_ask_for_is_comparable(value):
    assert comparable((value,)) is not None


class Hostile:
    def __repr__(self):
        raise AssertionError

    __hash__ = __eq__ = __repr__


class Zone(tzinfo):
    def __repr__(self):
        raise AssertionError


@pytest.mark.parametrize(
    "value",
    [
        [1, 2],
        {"a": 1},
        Hostile(),
        type("Text", (str,), {})("x"),
        datetime(2026, 1, 1, tzinfo=Zone()),
        "x" * (MAX_VALUE + 1),
        b"x" * (MAX_VALUE + 1),
        1 << 5_000_000,
        Decimal("1" * (MAX_VALUE + 1)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_can_change_is_long_or_runs_somebodys_code_is_not_comparable(value):
    assert comparable((1, value)) is None


@pytest.mark.parametrize("parameters", [None, 7, "text", (0,) * (MAX_PARAMETERS + 1)])
def test_what_is_no_set_of_parameters_or_too_large_a_one_is_not_comparable(parameters):
    assert comparable(parameters) is None
