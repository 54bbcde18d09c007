"""Random object graphs, walked and written at random: reads with a plan see what lazy reads see.

SQLAlchemy alone does not give one walk the same results each time, for two reasons, and both are taken away
here. The unit of work goes through sets of states, which have the order of memory addresses (its own
`randomize_unitofwork` exists for that): parents in a ring are noticed or not, and a flush may read a
relationship that raises, or not. And objects that refer to each other stay in the session until the garbage
collector comes. So sets keep their order during these tests, and the collector does not run during a walk.
"""

import gc
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from itertools import product

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Column, ForeignKey, Table, create_engine, delete, select, update
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    aliased,
    defer,
    dependency,
    joinedload,
    mapped_column,
    raiseload,
    relationship,
    selectinload,
    unitofwork,
    with_loader_criteria,
)
from sqlalchemy.orm import session as session_module
from sqlalchemy.pool import StaticPool
from sqlalchemy.util import OrderedSet, topological

from upshift.sql.fetch_plans.fetch_plans import FetchPlans


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
    """Every shape at once: a tree of itself, a reference, a collection, a many-to-many, and a subclass."""

    __tablename__ = "node"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    tenant: Mapped[int] = mapped_column(default=0)
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("node.id"))
    tag_id: Mapped[int | None] = mapped_column(ForeignKey("tag.id"))
    parent: Mapped["Node | None"] = relationship(back_populates="children", remote_side=[id])
    children: Mapped[list["Node"]] = relationship(back_populates="parent", order_by=id.desc())
    tag: Mapped[Tag | None] = relationship()
    tags: Mapped[list[Tag]] = relationship(secondary=likes, back_populates="nodes", order_by=Tag.id)
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "plain"}


class Special(Node):
    peers: Mapped[list[Node]] = relationship(
        viewonly=True,
        primaryjoin="foreign(Node.tenant) == remote(Node.tenant)",
        order_by="remote(Node.id)",
        uselist=True,
    )
    __mapper_args__ = {"polymorphic_identity": "special"}


RELATIONSHIPS = {
    Node: ("parent", "children", "tag", "tags"),
    Special: ("parent", "children", "tag", "tags", "peers"),
    Tag: ("nodes",),
}
OTHER = aliased(Node)


label_marks = Table(
    "label_marks",
    Base.metadata,
    Column("leaf_id", ForeignKey("leaf.id"), primary_key=True),
    Column("label_id", ForeignKey("label.id"), primary_key=True),
)


class Label(Base):
    __tablename__ = "label"
    id: Mapped[int] = mapped_column(primary_key=True)
    tenant: Mapped[int] = mapped_column(default=0)
    leaves: Mapped[list["Leaf"]] = relationship(
        secondary=label_marks, back_populates="labels", order_by="Leaf.id"
    )


class Leaf(Base):
    """The same shapes without subclasses, which plans serve directly."""

    __tablename__ = "leaf"
    id: Mapped[int] = mapped_column(primary_key=True)
    tenant: Mapped[int] = mapped_column(default=0)
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("leaf.id"))
    label_id: Mapped[int | None] = mapped_column(ForeignKey("label.id"))
    parent: Mapped["Leaf | None"] = relationship(back_populates="children", remote_side=[id])
    children: Mapped[list["Leaf"]] = relationship(
        back_populates="parent", order_by=id.desc(), cascade="all, delete-orphan"
    )
    label: Mapped[Label | None] = relationship()
    labels: Mapped[list[Label]] = relationship(
        secondary=label_marks, back_populates="leaves", order_by=Label.id
    )


STATEMENTS = {
    "plain": select(Node).order_by(Node.id),
    "limited": select(Node).order_by(Node.id.desc()).limit(7),
    "aliased": select(OTHER).order_by(OTHER.id),
    "with a column": select(Node, Node.id).order_by(Node.id),
    "subclass": select(Special).order_by(Node.id),
    "in chunks": select(Node).order_by(Node.id).execution_options(yield_per=5),
    "nodes of tenant 0": select(Node).order_by(Node.id).options(with_loader_criteria(Node, Node.tenant == 0)),
    "tags of tenant 0": select(Node).order_by(Node.id).options(with_loader_criteria(Tag, Tag.tenant == 0)),
    "criteria that stay here": select(Node)
    .order_by(Node.id)
    .options(with_loader_criteria(Tag, Tag.tenant == 0, propagate_to_loaders=False)),
    "foreign key deferred": select(Node).order_by(Node.id).options(defer(Node.tag_id)),
    "raising": select(Node).order_by(Node.id).options(raiseload(Node.tags), raiseload(Node.tag)),
    "eager already": select(Node)
    .order_by(Node.id)
    .options(joinedload(Node.tag).selectinload(Tag.nodes), selectinload(Node.children)),
    "refreshing": select(Node).order_by(Node.id).execution_options(populate_existing=True),
}

LEAF = aliased(Leaf)
RELATIONSHIPS |= {Leaf: ("parent", "children", "label", "labels"), Label: ("leaves",)}
LEAVES = {
    "raising": select(Leaf).order_by(Leaf.id).options(raiseload(Leaf.labels), raiseload(Leaf.label)),
    "plain": select(Leaf).order_by(Leaf.id),
    "limited": select(Leaf).order_by(Leaf.id.desc()).limit(7),
    "some": select(Leaf).where(Leaf.tenant == 0).order_by(Leaf.id),
    "distinct": select(Leaf).distinct().order_by(Leaf.id),
    "with a column": select(Leaf, Leaf.id).order_by(Leaf.id),
    "aliased": select(LEAF).order_by(LEAF.id),
    "in chunks": select(Leaf).order_by(Leaf.id).execution_options(yield_per=5),
    "labels of tenant 0": select(Leaf)
    .order_by(Leaf.id)
    .options(with_loader_criteria(Label, Label.tenant == 0)),
    "eager already": select(Leaf).order_by(Leaf.id).options(selectinload(Leaf.children)),
    "refreshing": select(Leaf).order_by(Leaf.id).execution_options(populate_existing=True),
}

graphs = st.integers(1, 24).flatmap(
    lambda nodes: st.tuples(
        st.integers(1, 8),
        st.lists(
            st.tuples(
                st.integers(0, 1),
                st.booleans(),
                st.none() | st.integers(1, nodes),
                st.none() | st.integers(1, 8),
                st.sets(st.integers(1, 8), max_size=4),
            ),
            min_size=nodes,
            max_size=nodes,
        ),
    )
)
reads = st.tuples(st.just("read"), st.integers(0, 60), st.integers(0, 4))
writes = st.tuples(
    st.sampled_from(
        [
            "child",
            "move",
            "delete",
            "remove",
            "expire",
            "flush",
            "commit",
            "rollback",
            "retag",
            "again",
            "get",
            "eagerly",
            "new",
            "append",
            "expire some",
            "expire column",
            "statement",
            "update",
            "reparent",
            "expunge",
            "narrowly",
        ]
    ),
    st.integers(0, 60),
    st.integers(0, 60),
)
short_walks = st.lists(st.one_of(reads, writes), min_size=1, max_size=12)
walks = st.lists(st.one_of(reads, reads, reads, reads, writes), min_size=8, max_size=40)

engine = create_engine("sqlite://", poolclass=StaticPool)
Base.metadata.create_all(engine)


def fill(tags, nodes):
    with engine.begin() as connection:
        for table in (likes, Node.__table__, Tag.__table__):
            connection.execute(delete(table))
        rows = [{"id": i, "tenant": i % 2} for i in range(1, tags + 1)]
        connection.execute(Tag.__table__.insert(), rows)
        for i, (tenant, is_special, parent, tag, _) in enumerate(nodes, 1):
            known = tag if tag and tag <= tags else None
            kind = "special" if is_special else "plain"
            row = {"id": i, "kind": kind, "tenant": tenant, "parent_id": parent, "tag_id": known}
            connection.execute(Node.__table__.insert(), row)
        for i, (*_, liked) in enumerate(nodes, 1):
            for tag in sorted(each for each in liked if each <= tags):
                connection.execute(likes.insert(), {"node_id": i, "tag_id": tag})


def grow(labels, leaves):
    """Fill the tables of the leaves with the same graph."""
    with engine.begin() as connection:
        for table in (label_marks, Leaf.__table__, Label.__table__):
            connection.execute(delete(table))
        connection.execute(
            Label.__table__.insert(), [{"id": i, "tenant": i % 2} for i in range(1, labels + 1)]
        )
        for i, (tenant, _, parent, label, _) in enumerate(leaves, 1):
            known = label if label and label <= labels else None
            row = {"id": i, "tenant": tenant, "parent_id": parent, "label_id": known}
            connection.execute(Leaf.__table__.insert(), row)
        for i, (*_, marked) in enumerate(leaves, 1):
            for label in sorted(each for each in marked if each <= labels):
                connection.execute(label_marks.insert(), {"leaf_id": i, "label_id": label})


def name(value):
    if isinstance(value, list):
        return [name(each) for each in value]
    return None if value is None else (type(value).__name__, value.id)


def query(session, statement):
    return [row[0] for row in session.execute(statement)]


@pytest.fixture(autouse=True, scope="module")
def sets_in_order() -> Iterator[None]:
    """Have SQLAlchemy flush in one order, as its `randomize_unitofwork` has it flush in any order."""
    dirty = Session._dirty_states

    def in_order(session):
        return OrderedSet(sorted(dirty.__get__(session), key=lambda state: repr(state.key)))

    with pytest.MonkeyPatch.context() as patch:
        for module in (dependency, session_module, topological, unitofwork):
            patch.setattr(module, "set", OrderedSet, raising=False)
        patch.setattr(Session, "_dirty_states", property(in_order))
        yield


@contextmanager
def no_collection():
    """Have only the counts of references decide which objects a session forgets."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def play(walk, statement, *, autoflush):
    """Return what each step of a walk sees; the objects met on the way can be walked from as well."""
    seen = []
    with no_collection(), Session(engine, autoflush=autoflush) as session:
        met = query(session, statement)
        seen.append(name(met))
        # At last all is read: what was fetched before a write and not read then must not come out now.
        last = [("read", number, key) for number, key in product(range(min(len(met), 30)), range(5))]
        for kind, first, second in [*walk, *last] if met else []:
            try:
                seen.append(step(session, met, kind, first, second, statement=statement))
            except Exception as error:  # noqa: BLE001 - whatever lazy loading raises, a plan must raise too
                session.rollback()
                seen.append(type(error).__name__)
        session.rollback()
    return seen


def step(session, met, kind, first, second, *, statement):  # noqa: C901 - a case for each kind
    one = met[first % len(met)]
    keys = RELATIONSHIPS[type(one)]
    match kind:
        case "read":
            value = getattr(one, keys[second % len(keys)])
            met.extend(each for each in (value if isinstance(value, list) else [value]) if each is not None)
            return name(value if not isinstance(value, list) else list(value))
        case "again":
            return name(query(session, statement))
        case "eagerly":
            attribute = getattr(type(one), keys[second % len(keys)])
            return name(session.scalars(select(type(one)).options(selectinload(attribute))).all())
        case "get":
            found = session.get(Node if isinstance(met[0], Node) else Leaf, second + 1)
            met.extend([found] if found is not None else [])
            return name(found)
        case "narrowly":
            kind, tagged = (Node, Tag) if isinstance(met[0], Node) else (Leaf, Label)
            found = query(session, select(kind).options(with_loader_criteria(tagged, tagged.tenant == 1)))
            met.extend(found[: second % 5])
            return name(found)
        case "flush" | "commit" | "rollback":
            getattr(session, kind)()
        case "statement":
            table = likes if isinstance(met[0], Node) else label_marks
            session.execute(delete(table).where(table.c[0] % 3 == second % 3))
        case "update":
            table = (Node if isinstance(met[0], Node) else Leaf).__table__
            changed = table.c.id % 3 == second % 3
            session.execute(update(table).where(changed).values(parent_id=first + 1, tenant=second % 2))
        case "expire some":
            session.expire(one, [keys[second % len(keys)]])
        case "expire column":
            session.expire(one, ["tenant" if isinstance(one, Tag | Label) else "parent_id"])
        case "expunge":
            session.expunge(one)
        case _:
            write(session, kind, one, met, second)
    return kind


def write(session, kind, one, met, second):  # noqa: C901 - a case for each kind
    other = met[second % len(met)]
    nodes = [each for each in met if isinstance(each, Node | Leaf)]
    number = 1_000 + len(met) * 61 + second
    match kind:
        case "child":
            session.add(type(nodes[0])(id=number, parent_id=nodes[0].id))
        case "new":
            # It changes the other side before the session knows of it.
            session.add(type(nodes[0])(id=number, parent=nodes[second % len(nodes)]))
        case "append":
            nodes[second % len(nodes)].children.append(type(nodes[0])(id=number))
        case "move":
            nodes[second % len(nodes)].parent_id = nodes[0].id
        case "reparent":
            nodes[0].parent = nodes[second % len(nodes)]
        case "retag" if isinstance(one, Node) and isinstance(other, Node):
            one.tag = other.tag
        case "retag" if isinstance(one, Leaf) and isinstance(other, Leaf):
            one.label = other.label
        case "delete":
            for table in (likes, label_marks):
                session.execute(delete(table).where(table.c[0] % 2 == second % 2))
        case "remove":
            session.delete(one)
        case "expire":
            session.expire(one)


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(graphs, walks, st.sampled_from(list(STATEMENTS)), st.booleans())
def test_reads_with_a_plan_see_what_lazy_reads_see(graph, walk, statement, autoflush):
    if statement == "foreign key deferred":
        # Any query that brings the object again fills the column, also one that a plan sends. It can then be
        # read where it could not be, after the row is gone.
        walk = [each for each in walk if each[0] != "remove"]
    fill(*graph)
    lazy = play(walk, STATEMENTS[statement], autoflush=autoflush)
    with closing(FetchPlans([engine])) as plans:
        assert plans.active
        for _ in range(3):  # to learn, to fetch, and to fetch what follows from that
            fill(*graph)
            assert play(walk, STATEMENTS[statement], autoflush=autoflush) == lazy
        assert plans.faults == 0


def read_all(statement, keys, keys_below):
    """Read relationships of all of a statement's objects, and of those that these lead to."""
    with Session(engine) as session:
        for leaf in query(session, statement):
            for key in keys:
                with suppress(InvalidRequestError):  # where a read raises
                    value = getattr(leaf, key)
                    for each in value if isinstance(value, list) else [value] if value is not None else []:
                        for below in keys_below & set(RELATIONSHIPS[type(each)]):
                            _ = getattr(each, below)


leaf_keys = st.sets(st.sampled_from(RELATIONSHIPS[Leaf]), min_size=1)
keys_below = st.sets(st.sampled_from(RELATIONSHIPS[Leaf] + RELATIONSHIPS[Label]), max_size=3)


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(graphs, short_walks, st.sampled_from(list(LEAVES)), st.booleans(), st.tuples(leaf_keys, keys_below))
def test_reads_of_what_options_loaded_see_what_lazy_reads_see(graph, walk, statement, autoflush, learned):
    grow(*graph)
    lazy = play(walk, LEAVES[statement], autoflush=autoflush)
    with closing(FetchPlans([engine], observed=1)) as plans:
        for _ in range(4):
            read_all(LEAVES[statement], *learned)
        for _ in range(3):
            grow(*graph)
            assert play(walk, LEAVES[statement], autoflush=autoflush) == lazy
        assert plans.faults == 0
