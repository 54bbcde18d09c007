"""Fingerprints: a class that has changed is another shape, and the same one is the same everywhere."""

from __future__ import annotations

import dataclasses
import enum
import subprocess
import sys
from typing import NamedTuple, TypedDict

import msgspec
import pydantic
import pytest

from upshift.cache.codec import codec_for
from upshift.cache.codec.shape import shape_of
from upshift.errors import CodecError


def struct(*fields, **options):
    return msgspec.defstruct("Item", fields, module="shop", **options)


def dataclass(*fields):
    made = dataclasses.make_dataclass("Item", fields)
    made.__module__ = "shop"
    return made


def model(**fields):
    return pydantic.create_model("Item", __module__="shop", **fields)


def enumeration(**members):
    return enum.Enum("Colour", members, module="shop")


def named(**fields):
    made = NamedTuple("Item", list(fields.items()))
    made.__module__ = "shop"
    return made


def typed(**fields):
    made = TypedDict("Item", fields)
    made.__module__ = "shop"
    return made


CHANGES = [
    (struct(("a", int)), struct(("b", int))),
    (struct(("a", int)), struct(("a", int), ("b", int, 0))),
    (struct(("a", int), ("b", int), array_like=True), struct(("b", int), ("a", int), array_like=True)),
    (struct(("a", int, 1), omit_defaults=True), struct(("a", int, 2), omit_defaults=True)),
    (struct(("a", int), tag="x"), struct(("a", int), tag="y")),
    (struct(("a_b", int), rename="camel"), struct(("a_b", int))),
    (struct(("a", list[struct(("x", int))])), struct(("a", list[struct(("y", int))]))),
    (dataclass(("a", int)), dataclass(("a", str))),
    (dataclass(("a", int), ("b", int)), dataclass(("b", int), ("a", int))),
    (model(a=(int, 0)), model(a=(int, 0), b=(int, 0))),
    (enumeration(RED=1, BLUE=2), enumeration(RED=2, BLUE=1)),
    (named(a=int, b=int), named(b=int, a=int)),
    (typed(a=int), typed(b=int)),
]


@pytest.mark.parametrize(("before", "after"), CHANGES)
def test_a_changed_class_is_another_shape(before, after):
    assert shape_of(list[before]).fingerprint != shape_of(list[after]).fingerprint


def test_what_was_kept_before_a_deploy_is_a_miss_after_it():
    before, after = struct(("price", int)), struct(("price_cents", int, 0))
    data = codec_for(before).encode(before(5))
    with pytest.raises(CodecError, match="another shape"):
        codec_for(after).decode(data)


def test_the_same_class_made_twice_is_one_shape():
    assert shape_of(struct(("a", int))).fingerprint == shape_of(struct(("a", int))).fingerprint


PROGRAM = """
import dataclasses, enum
from upshift.cache.codec import Plans
from upshift.cache.codec.shape import shape_of
from sqlalchemy import ForeignKey
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

class Colour(enum.Enum):
    RED, BLUE = "red", "blue"

@dataclasses.dataclass
class Item:
    colours: set[Colour]
    make: object = dataclasses.field(default_factory=lambda: object())

class Base(DeclarativeBase): pass

class Owner(Base):
    __tablename__ = "owner"
    id: Mapped[int] = mapped_column(primary_key=True)
    colour: Mapped[Colour]
    made: Mapped[int] = mapped_column(default=lambda: 1)
    things: Mapped[list["Thing"]] = relationship()

class Thing(Base):
    __tablename__ = "thing"
    id: Mapped[int] = mapped_column(primary_key=True)
    owner_id: Mapped[int] = mapped_column(ForeignKey("owner.id"))

print(shape_of(dict[str, Item | None]).fingerprint.hex(), Plans().of(Owner.__mapper__).fingerprint.hex())
"""


def test_every_process_has_the_same_fingerprints():
    printed = {
        subprocess.run(
            [sys.executable, "-c", PROGRAM],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(printed) == 1
