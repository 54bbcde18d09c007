"""Bytes that nobody wrote, or that somebody changed: a `CodecError`, whatever they are, and nothing else."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from sqlalchemy import ForeignKey, create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship, selectinload
from sqlalchemy.pool import StaticPool

from upshift.cache.codec import codec_for
from upshift.cache.codec.frame import pack
from upshift.cache.codec.shape import shape_of
from upshift.errors import CodecError


class Base(DeclarativeBase):
    pass


class Owner(Base):
    __tablename__ = "owner"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    things: Mapped[list[Thing]] = relationship(back_populates="owner")


class Thing(Base):
    __tablename__ = "thing"
    id: Mapped[int] = mapped_column(primary_key=True)
    owner_id: Mapped[int] = mapped_column(ForeignKey("owner.id"))
    owner: Mapped[Owner] = relationship(back_populates="things")


class Item(msgspec.Struct):
    name: str
    parts: tuple[int, ...] = ()


CODECS = [codec_for(), codec_for(list[Owner]), codec_for(list[Item]), codec_for(dict[str, Item | Owner])]


def owners():
    engine = create_engine("sqlite://", poolclass=StaticPool)
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add_all([Owner(id=number, name="x", things=[Thing(), Thing()]) for number in (1, 2)])
        session.commit()
        found = session.scalars(select(Owner).options(selectinload(Owner.things))).all()
    engine.dispose()
    return found


OWNERS = owners()
DATA = [
    (CODECS[0], CODECS[0].encode({"a": [1, (2.5, {3}), None], "b": b"x", "c": OWNERS[0]})),
    (CODECS[1], CODECS[1].encode(OWNERS)),
    (CODECS[2], CODECS[2].encode([Item("tea", (1, 2)), Item("x" * 5_000)])),
    (CODECS[3], CODECS[3].encode({"a": Item("tea"), "b": OWNERS[1]})),
]


def read(codec, data):
    """Return whether bytes were a value; raise what must never be raised."""
    try:
        codec.decode(data)
    except CodecError:
        return False
    return True


@given(st.sampled_from(CODECS), st.binary(max_size=300))
def test_noise_is_refused(codec, noise):
    assert not read(codec, noise)


@given(st.sampled_from(CODECS), st.integers(0, 4), st.binary(max_size=300))
@example(CODECS[0], 3, b"\x92\xc0" + b"\x91" * 100_000)
@example(CODECS[0], 3, b"\x92\xc0\xdd\xff\xff\xff\xff")
@example(CODECS[0], 3, b"\x92\xc0\xc7\x00\x63")
@example(CODECS[0], 9, b"")
def test_noise_in_a_frame_is_a_value_or_refused(codec, form, noise):
    read(codec, pack(form, codec._shape.fingerprint, noise, 10**6, 10**6))


@given(st.sampled_from(DATA), st.data())
def test_damaged_bytes_are_a_value_or_refused(kept, data):
    codec, good = kept
    at = data.draw(st.integers(0, len(good) - 1))
    damaged = good[:at] + data.draw(st.binary(max_size=8)) + good[at + data.draw(st.integers(0, 8)) :]
    read(codec, damaged)


@given(st.sampled_from(DATA), st.data())
def test_bytes_that_are_cut_off_are_refused(kept, data):
    codec, good = kept
    assert not read(codec, good[: data.draw(st.integers(0, len(good) - 1))])


def test_tags_within_tags_are_bounded():
    inner = b"\x01"
    for _ in range(20_000):
        inner = msgspec.msgpack.encode(msgspec.msgpack.Ext(20, inner))
    with pytest.raises(CodecError, match="recursion"):
        CODECS[0].decode(pack(3, CODECS[0]._shape.fingerprint, b"\x92\xc0" + inner, 10**9, 10**9))


def graph_of(codec):
    """Return the parts of what a codec wrote of two owners and their things, to be changed."""
    payload = codec.encode(OWNERS)[10:]
    return msgspec.msgpack.decode(payload)


def changed(change):
    codec = CODECS[1]
    graph, tree = graph_of(codec)
    change(graph)
    payload = msgspec.msgpack.encode([graph, msgspec.msgpack.Ext(tree.code, tree.data)])
    return codec, pack(3, codec._shape.fingerprint, payload, 10**6, 10**6)


def nothing(graph):
    pass


def more_objects(graph):
    graph[0] = 2**40


def fewer_objects(graph):
    graph[0] -= 1


def another_shape(graph):
    graph[1][0][1] = b"12345678"


def unknown_class(graph):
    graph[1][0][0] = "os.system"


def no_mapper(graph):
    graph[2][0][0] = 99


def far_number(graph):
    graph[2][0][1] = [1_000_000]


def negative_number(graph):
    graph[2][0][1] = [-3]


def one_number_twice(graph):
    graph[2][0][1] = [0, 0]


def no_number(graph):
    graph[2][0][1] = []


def no_column(graph):
    graph[2][0][2] = [99, 98]


def no_key(graph):
    graph[2][0][2] = [1, 1]


def its_state(graph):
    graph[2][0][3], graph[2][0][4] = ["_sa_instance_state"], [*graph[2][0][4], "str"]
    graph[2][0][5].append(["a", "b"])


def more_names(graph):
    graph[2][0][3] = ["x"]


def unknown_code(graph):
    graph[2][0][4][0] = "pickle"


def code_of_members(graph):
    graph[2][0][4][1] = "member"


def code_of_no_zone(graph):
    graph[2][0][4][1] = "moment in ../../etc/passwd"


def uneven_columns(graph):
    graph[2][0][5][1].append("z")


def other_types(graph):
    graph[2][0][5][0] = ["x", "y"]


def target_not_there(graph):
    graph[2][0][8] = [[[77], []]]


def negative_target(graph):
    graph[2][0][8] = [[[-1], []]]


def target_of_another_class(graph):
    graph[2][0][8] = [[[0], [1]]]


def one_for_many(graph):
    graph[2][0][8] = [[2, 3]]


def no_relationship(graph):
    graph[2][0][7] = [55]


HOSTILE = [
    more_objects, fewer_objects, another_shape, unknown_class, no_mapper, far_number, negative_number,
    one_number_twice, no_number, no_column, no_key, its_state, more_names, unknown_code, code_of_members,
    code_of_no_zone, uneven_columns, other_types, target_not_there, negative_target, target_of_another_class,
    one_for_many, no_relationship,
]  # fmt: skip


def test_a_graph_taken_apart_and_put_together_is_read():
    assert read(*changed(nothing))


@pytest.mark.parametrize("change", HOSTILE)
def test_a_graph_that_does_not_fit_is_refused(change):
    assert not read(*changed(change))


def test_a_value_of_another_annotation_is_a_miss():
    assert shape_of(list[Owner]) != shape_of(list[Thing])
    with pytest.raises(CodecError, match="another shape"):
        codec_for(list[Thing]).decode(CODECS[1].encode(OWNERS))
