"""Values that are not mapped: each comes back as it was, or is refused in words that help."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import ipaddress
import math
from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Annotated, Any, Literal, NamedTuple, NewType, TypedDict
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.dialects.postgresql import Range

from upshift.cache.codec import codec_for, return_annotation_of
from upshift.cache.codec.instances import is_same
from upshift.errors import CodecError


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Access(enum.Flag):
    READ = 1
    WRITE = 2


class Item(msgspec.Struct):
    name: str
    price: Decimal
    colour: Colour = Colour.RED


class Special(Item):
    discount: int = 0


class Menu(msgspec.Struct):
    items: list[Item]
    extra: Any = None


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    name: str
    opens: dt.time
    parts: tuple[Place, ...] = ()


@dataclasses.dataclass
class Counted:
    count: int

    def __post_init__(self):
        self.count += 1


class Pair(NamedTuple):
    left: int
    right: Place | None


class Options(TypedDict, total=False):
    page: int
    since: dt.date


class Order(pydantic.BaseModel):
    number: int
    lines: list[Item] | None = None
    paid_at: dt.datetime | None = None
    secret: str = pydantic.Field(default="", exclude=True)
    total: Decimal = pydantic.Field(default=Decimal(0), serialization_alias="sum")
    _seen: int = 0

    model_config = pydantic.ConfigDict(arbitrary_types_allowed=True)


class Line(pydantic.BaseModel):
    sku: str = pydantic.Field(alias="SKU")
    amount: int = 1


Sku = NewType("Sku", str)
NOON = dt.datetime(2026, 3, 29, 12, tzinfo=ZoneInfo("Europe/Berlin"))
PLACE = Place("Lucky Gas", dt.time(9, 30), (Place("Yard", dt.time(8)),))

VALUES = [
    (int, 7),
    (int, 10**40),
    (float, 7),
    (float, -0.0),
    (str, "瓦斯"),
    (list[int], [1, 2]),
    (Sequence[int], (1, 2)),
    (Sequence[int], [1, 2]),
    (tuple[int, ...], (1, 2)),
    (set[str], {"a", "b"}),
    (frozenset[int], frozenset({1})),
    (dict[str, int], {"b": 1, "a": 2}),
    (dict[int, list[str]], {7: ["x"], 8: []}),
    (dict[tuple[int, int], str], {(1, 2): "x"}),
    (dict[str, Any], {"price": Decimal("9.50"), "at": NOON, "of": [uuid4()], "raw": bytearray(b"x")}),
    (None, {"by": {1, 2}, "pair": (1, (2, 3)), "none": None, "big": -(2**63) - 1}),
    (None, [dt.date(2026, 1, 1), dt.timedelta(days=-1, microseconds=5), dt.time(1, fold=1)]),
    (None, [ipaddress.ip_address("10.0.0.1"), ipaddress.ip_network("2001:db8::/32"), 1j, Fraction(1, 3)]),
    (None, Range(1, 5, bounds="[]")),
    (None, Range(empty=True)),
    (None, [Decimal("-0.00"), Decimal("Infinity"), Decimal("1E+500")]),
    (dt.datetime, NOON),
    (dt.datetime, dt.datetime(2026, 10, 25, 2, 30, fold=1)),  # noqa: DTZ001 - databases have such
    (dt.datetime, dt.datetime(2026, 10, 25, 2, 30, tzinfo=dt.timezone(dt.timedelta(hours=8)))),
    (dt.datetime | None, None),
    (UUID, uuid4()),
    (Colour, Colour.BLUE),
    (Any, b"\x00\xff"),
    (Literal["a", "b"], "b"),
    (Annotated[int, "a number"], 3),
    (Sku, "A-1"),
    (Item, Item("tea", Decimal("1.5"), Colour.BLUE)),
    (list[Item | None], [Item("tea", Decimal(1)), None]),
    (Menu, Menu([Item("tea", Decimal(1))], extra=(1, Decimal(2)))),
    (Place, PLACE),
    (dict[str, Place], {"a": PLACE}),
    (Counted, Counted(1)),
    (Pair, Pair(1, PLACE)),
    (Options, {"page": 2, "since": dt.date(2026, 1, 1)}),
    (Access | Any, Access.READ | Access.WRITE),
    (Line, Line(SKU="A", amount=2)),
    (list[Line], [Line(SKU="A")]),
    (Order, Order(number=1, secret="s", total=Decimal("2.50"), paid_at=NOON)),
    (dict[str, Order | Place], {"order": Order(number=1), "place": PLACE}),
]  # fmt: skip


@pytest.mark.parametrize(("annotation", "value"), VALUES)
def test_what_comes_back_cannot_be_told_from_what_went_in(annotation, value):
    codec = codec_for(annotation)

    again = codec.decode(codec.encode(value))

    assert is_same(again, value), again


@pytest.mark.parametrize(
    ("annotation", "value"),
    [(list[int], [1]), (None, {"a": 1}), (Menu, Menu([])), (Counted, Counted(1)), (Order, Order(number=1))],
)
def test_each_call_makes_another_object(annotation, value):
    codec = codec_for(annotation)
    data = codec.encode(value)
    assert codec.decode(data) is not codec.decode(data)


def test_private_state_of_a_model_comes_back():
    order = Order(number=1)
    order._seen = 3
    codec = codec_for(Order)
    again = codec.decode(codec.encode(order))
    assert again._seen == 3
    assert again.model_fields_set == {"number"}


atoms = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.binary()
    | st.decimals(allow_nan=False)
    | st.uuids()
    | st.dates()
    | st.datetimes(timezones=st.none() | st.timezones() | st.just(dt.UTC))
    | st.times()
    | st.timedeltas()
    | st.complex_numbers()
    | st.fractions()
    | st.ip_addresses()
)
keys = st.text() | st.integers() | st.tuples(st.integers(), st.text()) | st.dates()
values = st.recursive(
    atoms,
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.dictionaries(keys, inner)
        | st.frozensets(keys)
        | st.sets(keys)
    ),
    max_leaves=20,
)


@given(values)
def test_any_value_of_builtins_comes_back(value):
    codec = codec_for()
    assert is_same(codec.decode(codec.encode(value)), value)


ANNOTATED = {
    list[int]: st.lists(st.integers()),
    dict[str, list[dt.datetime | None]]: st.dictionaries(
        st.text(), st.lists(st.none() | st.datetimes(timezones=st.none() | st.timezones()))
    ),
    list[Item]: st.lists(st.builds(Item, st.text(), st.decimals(allow_nan=False), st.sampled_from(Colour))),
    Menu: st.builds(Menu, st.just([]), values),
    Pair: st.builds(Pair, st.integers(), st.builds(Place, st.text(), st.times())),
    tuple[float, dt.timedelta]: st.tuples(st.floats(), st.timedeltas()),
}


@given(st.data())
def test_any_value_of_an_annotation_comes_back(data):
    annotation = data.draw(st.sampled_from(list(ANNOTATED)))
    value = data.draw(ANNOTATED[annotation])
    codec = codec_for(annotation)
    assert is_same(codec.decode(codec.encode(value)), value)


class Unknown:
    pass


class MyText(str):
    __slots__ = ()


@pytest.mark.parametrize(
    ("annotation", "value", "message"),
    [
        (
            None,
            Unknown(),
            r"a .*\.Unknown cannot be cached as bytes: name its class in the function's return",
        ),
        (None, Item("tea", Decimal(1)), r"a .*\.Item cannot be cached as bytes: name its class"),
        (Item, Special("tea", Decimal(1), discount=3), r"a .*\.Special cannot be cached as bytes"),
        (str, MyText("x"), r"a .*\.MyText cannot be cached as bytes"),
        (None, lambda: None, "a builtins.function cannot be cached as bytes"),
        (None, "\ud800", "would not come back as it is"),
        (None, iter([]), "a builtins.list_iterator cannot be cached as bytes"),
        (None, dt.datetime(2026, 1, 1, tzinfo=type("Zone", (dt.tzinfo,), {})()), "use zoneinfo"),
    ],
)
def test_what_would_come_back_as_something_else_is_refused(annotation, value, message):
    with pytest.raises(CodecError, match=message):
        codec_for(annotation).encode(value)


def test_what_contains_itself_is_refused():
    value: list[Any] = []
    value.append(value)
    with pytest.raises(CodecError, match="recursion"):
        codec_for().encode(value)


def test_an_attribute_beside_the_fields_is_refused():
    counted = Counted(1)
    counted.other = 2
    with pytest.raises(CodecError, match="an attribute 'other'"):
        codec_for(Counted).encode(counted)


def test_an_annotation_for_type_checkers_only_says_nothing():
    def function() -> Missing: ...  # noqa: F821

    assert return_annotation_of(function) is None


def test_not_a_number_comes_back():
    codec = codec_for(float)
    assert math.isnan(codec.decode(codec.encode(math.nan)))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, True),
        (0.0, -0.0),
        ([1], (1,)),
        ({"a": 1}, {"a": 1.0}),
        ({1}, {1.0}),
        (NOON, NOON.astimezone(dt.UTC)),
        (Decimal(1), Decimal("1.0")),
        (Item("tea", Decimal(1)), Special("tea", Decimal(1))),
        (Pair(1, None), (1, None)),
        (Order(number=1), Order(number=1, secret="")),
        (MyText("x"), "x"),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
    ],
)
def test_values_that_can_be_told_apart_are_not_the_same(one, other):
    assert not is_same(one, other)
    assert is_same(one, one)
