"""Wrappers on one object, taken out in any order."""

from __future__ import annotations

from itertools import permutations
from types import SimpleNamespace

import pytest

from upshift.sql.wrapping import unwrap, wrap


class Door:
    def knock(self):
        return ["door"]


def knocking(door, name):
    owner = SimpleNamespace(is_closed=False)
    knock = door.knock
    wrap(door, "knock", lambda: knock() if owner.is_closed else [name, *knock()], owner)
    return owner


def test_only_the_one_object_is_wrapped():
    door, other = Door(), Door()
    knocking(door, "a")
    assert (door.knock(), other.knock()) == (["a", "door"], ["door"])


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_owners_leave_in_any_order_and_nothing_is_left(order):
    door = Door()
    owners = [knocking(door, name) for name in "abc"]
    for each in order:
        owners[each].is_closed = True
        unwrap(door, "knock")
        still = [name for name, owner in zip("abc", owners, strict=True) if not owner.is_closed]
        assert door.knock() == [*reversed(still), "door"]
    assert "knock" not in vars(door)


def test_a_function_that_was_an_attribute_is_put_back():
    target = SimpleNamespace(make=len)
    owner = SimpleNamespace(is_closed=False)
    wrap(target, "make", lambda value: len(value) + 1, owner)
    owner.is_closed = True
    unwrap(target, "make")
    assert target.make is len


def test_what_somebody_has_wrapped_after_us_stays():
    door = Door()
    owner = knocking(door, "a")
    ours = door.knock
    door.knock = lambda: ["somebody", *ours()]
    owner.is_closed = True
    unwrap(door, "knock")
    assert door.knock() == ["somebody", "door"]


def test_unwrapping_what_was_never_wrapped_does_nothing():
    door = Door()
    unwrap(door, "knock")
    assert door.knock() == ["door"]
