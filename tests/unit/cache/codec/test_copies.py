"""Copies: whoever asks gets objects of their own, and what can be shared is shared."""

from __future__ import annotations

import dataclasses
from typing import Any

import msgspec
import pydantic
import pytest
from sqlalchemy import create_engine, inspect, select
from sqlalchemy.ext.declarative import AbstractConcreteBase
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.pool import StaticPool

from upshift.cache.codec import COMPRESS_FROM, Codec, Copies, codec_for, copies_of
from upshift.errors import CodecError


class Base(DeclarativeBase):
    pass


class City(Base):
    __tablename__ = "city"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


@dataclasses.dataclass
class Page:
    items: list[City]
    total: int


class Box(msgspec.Struct):
    content: Any


class Model(pydantic.BaseModel):
    content: Any


@pytest.fixture
def session():
    engine = create_engine("sqlite://", poolclass=StaticPool)
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add_all([City(id=1, name="Taipei"), City(id=2, name="Tainan")])
        session.commit()
        yield session
    engine.dispose()


WRAPPED = {
    "itself": lambda city: (City, city),
    "in a list": lambda city: (list[City], [city]),
    "in a tuple in a dict": lambda city: (None, {"a": (1, city)}),
    "as a key": lambda city: (None, {city: 1}),
    "in a set": lambda city: (None, {city}),
    "in a dataclass": lambda city: (Page, Page([city], 1)),
    "in a Struct": lambda city: (Box, Box([city])),
    "in a model": lambda city: (Model, Model(content=(city,))),
}


@pytest.mark.parametrize("wrap", WRAPPED.values(), ids=WRAPPED)
def test_objects_are_copied_wherever_they_are(session, wrap):
    city = session.get(City, 1)
    annotation, value = wrap(city)

    copies = copies_of(value, codec_for(annotation))
    one, other = cities_in(copies.take()), cities_in(copies.take())

    assert one[0].name == other[0].name == "Taipei"
    assert len({id(city), id(one[0]), id(other[0])}) == 3
    assert inspect(one[0]).detached


@pytest.mark.parametrize("compress_from", [COMPRESS_FROM, 1])
@pytest.mark.parametrize("wrap", WRAPPED.values(), ids=WRAPPED)
def test_bytes_tell_whether_what_is_made_of_them_may_be_shared(session, wrap, compress_from):
    annotation, value = wrap(session.get(City, 1))
    codec = Codec(annotation, compress_from=compress_from)
    copies = codec.shareable(codec.encode(value))

    assert isinstance(copies, Copies)
    assert cities_in(copies.take())[0] is not cities_in(copies.take())[0]


@pytest.mark.parametrize("compress_from", [COMPRESS_FROM, 1])
@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (list[int], [1, 2]),
        (None, {"a": [{"b": 1}], "text": "x" * 1000}),
        (Box, Box([1])),
        (Model, Model(content=1)),
        (list[City], []),
    ],
)
def test_what_is_made_of_bytes_is_shared_where_nothing_in_it_is_mapped(annotation, value, compress_from):
    codec = Codec(annotation, compress_from=compress_from)
    assert codec.shareable(codec.encode(value)) == value


def cities_in(value):
    match value:
        case City():
            return [value]
        case dict():
            parts = [*value, *value.values()]
        case Page(items=parts) | Box(content=parts) | Model(content=parts):
            pass
        case list() | tuple() | set():
            parts = value
        case _:
            parts = []
    return [city for each in parts for city in cities_in(each)]


def test_rows_with_objects_are_copied(session):
    rows = session.execute(select(City, City.name).where(City.id == 1)).all()
    assert copies_of(rows, codec_for()).take()[0][0] is not rows[0][0]
    assert copies_of(session.execute(select(City.name)).all(), codec_for()) is None


@pytest.mark.parametrize("value", [None, 7, "x", [1, 2], {"a": [{"b": 1}]}, Box([1]), Page([], 0), {1, 2}])
def test_what_holds_none_is_shared(value):
    assert copies_of(value, codec_for()) is None


def test_attributes_beside_the_fields_are_no_trouble():
    page = Page([], 0)
    page.seen = object()
    assert copies_of(page, codec_for()) is None


def test_what_contains_itself_is_no_trouble():
    value: list[Any] = []
    value.append(value)
    assert copies_of(value, codec_for()) is None


def test_what_cannot_be_copied_is_told(session):
    with pytest.raises(CodecError, match="City cannot be cached: it is not in the database yet"):
        copies_of([City(name="new")], codec_for())


def test_a_class_that_is_not_mapped_yet_is_no_trouble_to_others(session):
    class Other(DeclarativeBase):
        pass

    class Shape(AbstractConcreteBase, Other):
        """Mapped when its subclasses are."""

    (manager,) = Other.registry._managers
    assert (manager.class_, manager.is_mapped) == (Shape, False)
    assert copies_of(session.get(City, 1), codec_for(City)).take().name == "Taipei"
