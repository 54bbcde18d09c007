from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upshift.sql.replicas.position import BEYOND, Position

numbers = st.integers(0, 2**64 - 1)


@given(numbers)
def test_the_servers_form_is_read(lsn):
    assert Position.parse(3, f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}") == Position(3, lsn)


@given(numbers, numbers)
def test_a_later_timeline_is_later_wherever_it_is(one, other):
    assert Position(1, one) < Position(2, other) < BEYOND


@pytest.mark.parametrize("text", ["", "0", "x/y", "0/1/2"])
def test_what_is_no_position_is_refused(text):
    with pytest.raises(ValueError, match=r".*"):
        Position.parse(1, text)
