"""Random object graphs, walked and written at random: batched reads see what lazy reads see."""

from contextlib import closing
from itertools import product

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Column, ForeignKey, Table, create_engine, delete, select
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    defer,
    mapped_column,
    relationship,
    with_loader_criteria,
)
from sqlalchemy.pool import StaticPool

from upshift.sql import Batching


class Base(DeclarativeBase):
    pass


likes = Table(
    "likes",
    Base.metadata,
    Column("node_id", ForeignKey("node.id"), primary_key=True),
    Column("tag_id", ForeignKey("tag.id"), primary_key=True),
)


class Tag(Base):
    __tablename__ = "tag"
    id: Mapped[int] = mapped_column(primary_key=True)
    tenant: Mapped[int] = mapped_column(default=0)
    nodes: Mapped[list["Node"]] = relationship(secondary=likes, back_populates="tags", order_by="Node.id")


class Node(Base):
    """Every shape at once: a tree of itself, a reference, a collection and a many-to-many."""

    __tablename__ = "node"
    id: Mapped[int] = mapped_column(primary_key=True)
    tenant: Mapped[int] = mapped_column(default=0)
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("node.id"))
    tag_id: Mapped[int | None] = mapped_column(ForeignKey("tag.id"))
    parent: Mapped["Node | None"] = relationship(back_populates="children", remote_side=[id])
    children: Mapped[list["Node"]] = relationship(back_populates="parent", order_by=id.desc())
    tag: Mapped[Tag | None] = relationship()
    tags: Mapped[list[Tag]] = relationship(secondary=likes, back_populates="nodes", order_by=Tag.id)


RELATIONSHIPS = {Node: ("parent", "children", "tag", "tags"), Tag: ("nodes",)}
OPTIONS = {
    "none": (),
    "nodes of tenant 0": (with_loader_criteria(Node, Node.tenant == 0),),
    "tags of tenant 0": (with_loader_criteria(Tag, Tag.tenant == 0),),
    "foreign key deferred": (defer(Node.tag_id),),
}

graphs = st.integers(1, 30).flatmap(
    lambda nodes: st.tuples(
        st.integers(1, 8),
        st.lists(
            st.tuples(
                st.integers(0, 1),
                st.none() | st.integers(1, nodes),
                st.none() | st.integers(1, 8),
                st.sets(st.integers(1, 8), max_size=4),
            ),
            min_size=nodes,
            max_size=nodes,
        ),
    )
)
reads = st.tuples(st.just("read"), st.integers(0, 60), st.integers(0, 3))
writes = st.tuples(
    st.sampled_from(["child", "move", "delete", "expire", "flush", "commit", "rollback", "retag"]),
    st.integers(0, 60),
    st.integers(0, 60),
)
walks = st.lists(st.one_of(reads, reads, reads, reads, writes), min_size=8, max_size=40)

engine = create_engine("sqlite://", poolclass=StaticPool)
Base.metadata.create_all(engine)


def fill(tags, nodes):
    with engine.begin() as connection:
        for table in (likes, Node.__table__, Tag.__table__):
            connection.execute(delete(table))
        rows = [{"id": i, "tenant": i % 2} for i in range(1, tags + 1)]
        connection.execute(Tag.__table__.insert(), rows)
        for i, (tenant, parent, tag, _) in enumerate(nodes, 1):
            known = tag if tag and tag <= tags else None
            row = {"id": i, "tenant": tenant, "parent_id": parent, "tag_id": known}
            connection.execute(Node.__table__.insert(), row)
        for i, (*_, liked) in enumerate(nodes, 1):
            for tag in sorted(each for each in liked if each <= tags):
                connection.execute(likes.insert(), {"node_id": i, "tag_id": tag})


def name(value):
    if isinstance(value, list):
        return [name(each) for each in value]
    return None if value is None else (type(value).__name__, value.id)


def play(walk, options, *, batched):
    """Return what each step of a walk sees; the objects met on the way can be walked from as well."""
    seen = []
    with closing(Batching([engine] if batched else [])) as batching, Session(engine) as session:
        assert batching.active
        met = list(session.scalars(select(Node).order_by(Node.id).options(*options)))
        seen.append(name(met))
        for kind, first, second in walk if met else []:
            one = met[first % len(met)]
            try:
                seen.append(step(session, met, one, kind, second))
            except Exception as error:  # noqa: BLE001 - whatever lazy loading raises, batching must raise too
                session.rollback()
                seen.append(type(error).__name__)
        # What was fetched ahead before a write and has not been read yet must not come out now.
        for number, key in product(range(len(met)), range(4)):
            try:
                seen.append(step(session, met, met[number], "read", key))
            except Exception as error:  # noqa: BLE001 - as above
                session.rollback()
                seen.append(type(error).__name__)
        session.rollback()
    return seen


def step(session, met, one, kind, second):
    other = met[second % len(met)]
    nodes = [each for each in met if isinstance(each, Node)]
    match kind:
        case "read":
            keys = RELATIONSHIPS[type(one)]
            value = getattr(one, keys[second % len(keys)])
            met.extend(each for each in (value if isinstance(value, list) else [value]) if each is not None)
            return name(value if not isinstance(value, list) else list(value))
        case "child":
            session.add(Node(id=1_000 + len(met) * 61 + second, parent_id=nodes[0].id))
        case "move":
            nodes[second % len(nodes)].parent_id = nodes[0].id
        case "retag" if isinstance(one, Node) and isinstance(other, Node):
            one.tag = other.tag
        case "delete":
            session.execute(delete(likes).where(likes.c.node_id % 2 == second % 2))
        case "expire":
            session.expire(one)
        case "flush":
            session.flush()
        case "commit":
            session.commit()
        case "rollback":
            session.rollback()
    return kind


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(graphs, walks, st.sampled_from(list(OPTIONS)))
def test_batched_reads_see_what_lazy_reads_see(graph, walk, options):
    fill(*graph)
    lazy = play(walk, OPTIONS[options], batched=False)
    fill(*graph)

    assert play(walk, OPTIONS[options], batched=True) == lazy
