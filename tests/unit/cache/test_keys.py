"""Keys of calls: equal for equal calls, and no others."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from decimal import Decimal
from enum import KEEP, Enum, IntFlag
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upshift.cache.keys import MAX_TEXT, CallKeys
from upshift.errors import CacheKeyError


class Colour(Enum):
    RED = 1
    GREEN = 2


@dataclass(frozen=True)
class Page:
    number: int
    size: int = 20


@dataclass
class Mutable:
    number: int


def product(number, currency="TWD", *, verbose=False): ...


def only(value): ...


def anything(*values, **named): ...


def test_defaults_and_names_make_no_difference():
    keys = CallKeys(product)

    assert (
        len(
            {
                keys(7),
                keys(7, "TWD"),
                keys(number=7),
                keys(currency="TWD", number=7, verbose=False),
            }
        )
        == 1
    )


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, 1.0), (1, True), (0, False), (1, "1"), (b"a", "a"), ((1, 2), [1, 2]), (None, "None"),
        (Colour.RED, "RED"), (Colour.RED, Colour.GREEN), (Decimal("1.0"), 1),
        (dt.date(2026, 1, 1), "2026-01-01"), (Page(1), Page(2)), (Page(1), (1, 20)),
        ({"a": 1}, {"a": True}), ({1}, frozenset({1})), ((1, (2,)), (1, 2)),
    ],
)  # fmt: skip
def test_values_of_different_types_have_different_keys(one, other):
    keys = CallKeys(only)

    assert keys(one) != keys(other)
    assert keys(one) == keys(value=one)
    assert hash(keys(one)) is not None


plain = st.one_of(
    *(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=20)),
    *(st.binary(max_size=20), st.decimals(allow_nan=False), st.dates(), st.uuids(), st.sampled_from(Colour)),
)


def containers(each):
    dictionaries = st.dictionaries(st.text(max_size=3), each, max_size=3)
    return st.one_of(st.lists(each, max_size=3), st.tuples(each, each), dictionaries)


values = st.recursive(plain, containers, max_leaves=6)


def typed(value):
    if isinstance(value, (list, tuple)):
        return type(value), [typed(each) for each in value]
    if isinstance(value, dict):
        return dict, {key: typed(each) for key, each in value.items()}
    return type(value), repr(value) if isinstance(value, (float, Decimal)) else value


@given(values, values)
def test_keys_are_equal_when_values_and_types_are(one, other):
    keys = CallKeys(only)

    assert (keys(one) == keys(other)) == (typed(one) == typed(other))


NOON = dt.datetime(2026, 11, 30, 12, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (NOON, NOON.astimezone(ZoneInfo("Asia/Taipei"))),
        (NOON, NOON.astimezone(ZoneInfo("UTC"))),
        (dt.time(1, fold=0), dt.time(1, fold=1)),
        (Decimal("1.0"), Decimal("1.00")),
        (0.0, -0.0),
    ],
)
def test_values_that_are_equal_and_written_in_other_ways_have_different_keys(one, other):
    keys = CallKeys(only)

    assert one == other
    assert keys(one) != keys(other)


def test_classes_of_one_name_in_two_modules_are_two():
    keys = CallKeys(only)
    colours = [Enum("Colour", {"RED": 1}, module=module) for module in ("cars", "flags")]

    assert keys(colours[0].RED) != keys(colours[1].RED)


def test_members_without_a_name_are_told_apart():
    keys = CallKeys(only)

    assert len({keys(IntFlag("Rights", "READ", boundary=KEEP)(number)) for number in (0, 8, 16)}) == 3


def test_what_a_call_has_beyond_its_parameters_is_part_of_its_key():
    keys = CallKeys(anything)

    assert keys(1, 2, a=3) == keys(1, 2, a=3)
    assert keys(1, 2, a=3) != keys(1, a=3)
    assert keys(1, a=3) != keys(1, a=4)


def test_what_is_ignored_is_not():
    keys = CallKeys(product, ignore=["currency"])

    assert keys(7, object()) == keys(7)


@pytest.mark.parametrize(
    "value", [object(), Mutable(1), iter([]), lambda: None, Page], ids=lambda each: type(each).__name__
)
def test_an_object_that_is_equal_only_to_itself_is_refused_by_name(value):
    with pytest.raises(CacheKeyError, match=r"value of only is a \w+.*ignore=\['value'\]"):
        CallKeys(only)(value)


def test_a_document_is_no_key():
    assert CallKeys(only)("x" * MAX_TEXT)
    with pytest.raises(CacheKeyError, match=f"has {MAX_TEXT + 1} characters"):
        CallKeys(only)("x" * (MAX_TEXT + 1))


def test_a_method_has_to_tell_what_of_itself_matters():
    class Shop:
        def menu(self, number): ...

    with pytest.raises(CacheKeyError, match="is a method: tell by key="):
        CallKeys(Shop.menu)
    assert CallKeys(Shop.menu, ignore=["self"])(Shop(), 1) == CallKeys(Shop.menu, ignore=["self"])(Shop(), 1)


def test_ignoring_what_is_not_there_is_refused():
    with pytest.raises(CacheKeyError, match="no parameter 'sesion'"):
        CallKeys(product, ignore=["sesion"])


def test_a_call_that_the_function_would_refuse_is_refused():
    with pytest.raises(TypeError, match="missing a required argument"):
        CallKeys(product)()


def test_subclasses_of_plain_types_are_not_taken_for_them():
    class Tenant(int):
        pass

    with pytest.raises(CacheKeyError, match="Tenant"):
        CallKeys(only)(Tenant(3))


def test_a_key_says_the_same_in_every_process():
    key = CallKeys(product)(UUID(int=7), verbose=True)

    assert repr(key) == repr(CallKeys(product)(UUID(int=7), verbose=True))
    assert "0x" not in repr(key)
