"""Attribute names are claimed in time, or not at all. Each test needs a process that has loaded nothing."""

from __future__ import annotations

import subprocess
import sys

import pytest

from upshift.sql.loading.claim import NAMES

takes_no_late_names = pytest.mark.skipif(
    sys.version_info >= (3, 12) or sys.implementation.name != "cpython",
    reason="a fault of CPython 3.11",
)

STATES = """
from sqlalchemy import ForeignKey, create_engine, inspect, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship, selectinload
from sqlalchemy.orm import attributes, make_transient, defer, load_only
from upshift.sql.loading.claim import NAMES, claim_names
class Base(DeclarativeBase): pass
class Node(Base):
    __tablename__ = "node"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str | None]
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("node.id"))
    children: Mapped[list["Node"]] = relationship(back_populates="parent", cascade="all, delete-orphan")
    parent: Mapped["Node | None"] = relationship(back_populates="children", remote_side=id)
"""

BUSY_SESSION = """
import pickle, sys
sys.modules["__main__"].Node = Node
seen = set()
def look(*nodes):
    for node in nodes:
        seen.update(vars(inspect(node)))
engine = create_engine("sqlite://")
Base.metadata.create_all(engine)
with Session(engine) as session:
    nodes = [Node(id=n, name="x", parent_id=1 if n > 1 else None) for n in range(1, 21)]
    look(*nodes)
    session.add_all(nodes)
    look(*nodes)
    session.flush()
    look(*nodes)
    session.commit()
    look(*nodes)
with Session(engine) as session:
    query = select(Node).options(selectinload(Node.children), defer(Node.name)).order_by(Node.id)
    nodes = session.scalars(query).all()
    look(*nodes)
    root, one, other, *rest = nodes
    for node in rest:
        node.parent, node.name, node.children
    inspect(root).attrs, inspect(root).info, inspect(root).mapper, inspect(root).callables
    root.name = "y"
    attributes.flag_modified(one, "name")
    one.children.append(Node(id=100))
    rest[0].parent = None
    session.expire(other, ["name"])
    look(*nodes)
    session.delete(rest[1])
    session.flush()
    look(*nodes)
    session.refresh(root, with_for_update=True)
    session.expire(root)
    with session.begin_nested() as savepoint:
        session.delete(rest[2])
        session.flush()
        look(*nodes)
        savepoint.rollback()
    look(*nodes)
    copies = [session.merge(pickle.loads(pickle.dumps(node))) for node in rest[3:6]]
    look(*copies)
    session.expunge(rest[6])
    make_transient(rest[6])
    look(*nodes)
    session.rollback()
    look(*nodes)
with Session(engine, expire_on_commit=False) as session:
    one, last = session.get(Node, 2), session.get(Node, 1).children[-1]
    session.get(Node, 3).children = [last]
    look(last)
    late = Node(id=200, parent=one)
    look(late)
    session.commit()
    look(one, last, late)
    pending = session.get(Node, 2, options=[load_only(Node.id)])
    Node(id=300, parent=pending)
    look(pending)
print(sorted(seen - set(NAMES) - {"class_", "obj", "manager"}))
print(len(seen & set(NAMES)))
"""


def run(program):
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split("\n")[:-1]


def test_in_a_fresh_process_the_names_are_taken():
    assert run(STATES + "print(claim_names())") == ["True"]


def test_claiming_again_is_fine():
    assert run(STATES + "print(claim_names(), claim_names())") == ["True True"]


def test_after_a_claim_any_number_of_objects_may_come():
    program = STATES + "claim_names()\nnodes = [Node() for _ in range(60)]\nprint(claim_names())"
    assert run(program) == ["True"]


@takes_no_late_names
def test_after_many_objects_it_is_too_late():
    assert run(STATES + "nodes = [Node() for _ in range(60)]\nprint(claim_names())") == ["False"]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="the fault was fixed in CPython 3.12")
def test_later_versions_may_claim_at_any_time():
    assert run(STATES + "nodes = [Node() for _ in range(60)]\nprint(claim_names())") == ["True"]


@takes_no_late_names
def test_the_states_of_a_busy_session_keep_their_shared_keys():
    program = STATES + "import sys\nclaim_names()\n" + BUSY_SESSION
    program += (
        "print(all(sys.getsizeof(vars(s)) < sys.getsizeof(dict(vars(s))) for s in map(inspect, nodes)))"
    )
    assert run(program)[-1] == "True"


def test_every_name_that_a_busy_session_gives_is_claimed():
    unclaimed, count = run(STATES + BUSY_SESSION)
    assert unclaimed == "[]"
    assert int(count) >= 10  # the session was busy indeed


def test_so_many_names_the_class_takes():
    assert len(set(NAMES)) == len(NAMES) < 30
