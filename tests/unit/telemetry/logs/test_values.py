"""What an application says, made fit to be written."""

import datetime as dt
import enum
import json
import uuid
from collections import OrderedDict, UserDict
from decimal import Decimal
from pathlib import PurePosixPath

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from upshift.telemetry.logs import values as module
from upshift.telemetry.logs.values import CUT, MAX_CHARACTERS, MAX_ITEMS, REDACTED, Values, encodable


class Broken:
    def __repr__(self):
        raise RuntimeError("no")


class Lying:
    @property
    def __class__(self):
        raise ValueError("who asks?")


class Colour(enum.StrEnum):
    RED = "red"


class Named(str):
    __slots__ = ()

    def __str__(self):
        raise RuntimeError("no")


def of(value):
    return Values().of({"it": value})["it"]


@pytest.mark.parametrize("value", ["text", "", "naïve", 0, -7, 1.5, True, False, None, 2**64 - 1, -(2**63)])
def test_what_json_has_stays_as_it_is(value):
    assert of(value) == value
    assert type(of(value)) is type(value)


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (float("nan"), "nan"),
        (float("-inf"), "-inf"),
        (2**64, "18446744073709551616"),
        (b"bytes\xff", r"bytes\xff"),
        (Decimal("1.10"), "1.10"),
        (uuid.UUID(int=7), "00000000-0000-0000-0000-000000000007"),
        (PurePosixPath("/srv"), "/srv"),
        (dt.datetime(2026, 1, 2, tzinfo=dt.UTC), "2026-01-02T00:00:00+00:00"),
        (Colour.RED, "red"),
        (ValueError("odd"), "ValueError('odd')"),
        ((1, [2, {"a": {3}}]), [1, [2, {"a": [3]}]]),
        (OrderedDict(a=1), {"a": 1}),
        (UserDict(a=1), {"a": 1}),
        ({1: "a", None: "b", (2, 3): "c"}, {"1": "a", "None": "b", "(2, 3)": "c"}),
        (Broken(), "<unprintable Broken: RuntimeError>"),
        (Named("x"), "x"),
    ],
)
def test_what_json_has_not_is_written_as_text(value, written):
    assert of(value) == written


def test_an_integer_too_large_even_for_text_does_not_raise():
    assert of(10**5_000) == "<unprintable int: ValueError>"


def test_an_object_that_lies_about_its_class_does_not_raise():
    assert of(Lying()) == "<unprintable Lying: ValueError>"


def test_a_key_that_cannot_be_printed_does_not_raise():
    assert of({Broken(): 1}) == {"<unprintable Broken: RuntimeError>": 1}


def test_a_collection_that_contains_itself_ends_somewhere():
    loop = []
    loop.append(loop)
    written = of(loop)
    for _ in range(module.MAX_DEPTH):
        written = written[0]
    assert written == CUT


def test_a_collection_that_raises_when_it_is_read_is_unprintable():
    class Mapping(UserDict):
        def items(self):
            raise KeyError

    assert of(Mapping()) == "<unprintable Mapping: KeyError>"


def test_a_megabyte_of_text_is_shortened():
    assert of("x" * 1_000_000) == "x" * 8_000 + "… (992000 more characters)"


def test_many_large_values_share_one_bound():
    written = Values().of({str(number): "x" * 8_000 for number in range(90)})
    assert sum(map(len, written.values())) < MAX_CHARACTERS + 90 * 40


def test_a_huge_collection_is_cut():
    assert of(list(range(10_000))) == [*range(MAX_ITEMS), CUT]
    assert of(dict.fromkeys(map(str, range(10_000))))[CUT] == "9900 more"


def test_collections_within_collections_share_one_bound():
    written = of([[[[0] * 90] * 90] * 90] * 90)
    assert len(json.dumps(written)) < 20_000


def test_a_name_is_shortened():
    assert max(map(len, Values().of({"x" * 1_000_000: 1}))) == module.MAX_NAME


@pytest.mark.parametrize("name", ["password", "PASSWORD", "Set-Cookie", "set_cookie"])
def test_a_named_field_is_redacted_in_upper_and_lower_case_hyphens_or_underscores(name):
    values = Values(["Password", "set-cookie"])
    assert values.of({name: "tulip"}) == {name: REDACTED}


def test_a_named_field_is_redacted_within_dicts_and_lists():
    said = {"form": [{"user": 7, "token": "tulip"}, ({"deep": {"token": ["tulip"]}},)]}
    assert Values(["token"]).of(said) == {
        "form": [{"user": 7, "token": REDACTED}, [{"deep": {"token": REDACTED}}]]
    }


def test_a_field_is_redacted_by_its_whole_name():
    assert Values(["token"]).of({"tokens": 3}) == {"tokens": 3}


def test_what_is_said_stays_as_it_was():
    said = {"form": {"token": "tulip"}}
    Values(["token"]).of(said)
    assert said == {"form": {"token": "tulip"}}


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters())
    | st.binary()
    | st.builds(Broken)
    | st.builds(Lying),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters()) | st.integers(), inner),
    max_leaves=20,
)


@given(st.dictionaries(st.text(st.characters()), anything))
def test_whatever_is_said_can_be_encoded(said):
    msgspec.json.encode(encodable(Values(["password"]).of(said)))


@given(anything)
def test_a_secret_never_comes_out(value):
    said = {"list": [{"password": "tulip"}, value], "password": {"tulip": "tulip"}}
    assert b"tulip" not in msgspec.json.encode(encodable(Values(["password"]).of(said)))
