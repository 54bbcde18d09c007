"""Capture's work for one statement, counted in Python calls, so that a slow-down fails without a clock.

A count that rises on purpose is changed here, with the reason in the changelog.
"""

from __future__ import annotations

import sys
from collections import Counter
from contextvars import ContextVar
from pathlib import Path

import pytest
from sqlalchemy import ForeignKey, create_engine, insert, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship
from sqlalchemy.pool import StaticPool

import upshift
from upshift.record import Record
from upshift.record.pool import Checkout
from upshift.sql.capture.capture import Capture
from upshift.sql.capture.comments import Comments

OURS = str(Path(upshift.__file__).parent)


class Base(DeclarativeBase):
    pass


class Parent(Base):
    __tablename__ = "parent"
    id: Mapped[int] = mapped_column(primary_key=True)
    children: Mapped[list[Child]] = relationship()


class Child(Base):
    __tablename__ = "child"
    id: Mapped[int] = mapped_column(primary_key=True)
    parent_id: Mapped[int] = mapped_column(ForeignKey("parent.id"))


@pytest.fixture
def engine():
    engine = create_engine("sqlite://", poolclass=StaticPool)
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(insert(Parent), [{"id": 1}])
        connection.execute(insert(Child), [{"id": n, "parent_id": 1} for n in range(1, 51)])
    yield engine
    engine.dispose()


@pytest.fixture
def calls(engine):
    """A function that counts Upshift's own Python calls, and all calls, of some work that ran before."""

    def count(work, *, in_record=True, captured=True, **arguments):
        current = ContextVar("current", default=None)
        if "checkouts" in arguments:
            arguments["checkouts"]["current"] = current
        capture = Capture([engine], current, **arguments) if captured else None
        ours, every = Counter(), Counter()

        def note(frame, event, _argument):
            if event == "call":
                every[frame.f_code.co_qualname] += 1
                # The constructor of a `NamedTuple` lies in no file; the caller's is what counts.
                code = frame.f_code if frame.f_code.co_filename != "<string>" else frame.f_back.f_code
                if code.co_filename.startswith(OURS):
                    ours[frame.f_code.co_qualname] += 1

        try:
            for _ in range(3):
                work()
            if in_record:
                current.set(Record("GET", "/", 0.0))
            work()
            sys.setprofile(note)
            try:
                work()
            finally:
                sys.setprofile(None)
        finally:
            if capture is not None:
                capture.close()
        return ours, every

    return count


@pytest.fixture
def core(engine):
    query = select(Child.id)

    def work():
        with engine.connect() as connection:
            assert len(connection.execute(query).all()) == 50

    return work


@pytest.fixture
def orm(engine):
    query = select(Child)

    def work():
        with Session(engine) as session:
            assert len(session.scalars(query).all()) == 50

    return work


@pytest.fixture
def lazy(engine):
    query = select(Parent)

    def work():
        with Session(engine) as session:
            assert len(session.scalars(query).one().children) == 50

    return work


STATEMENT = {
    "Capture._executing.<locals>.wrapper": 1,
    "Statement.__init__": 1,
    "Origins.of": 1,
    "CallSites.find_known": 1,
    "Record.add": 1,
    "time_fetches": 1,
    "SentStatement.fetchall": 1,
}


def test_a_core_statement_costs_seven_python_calls(calls, core):
    ours, _ = calls(core)
    assert ours <= Counter(STATEMENT), ours


def test_an_orm_statement_costs_one_more(calls, orm):
    ours, _ = calls(orm)
    assert ours <= Counter(STATEMENT) + Counter(["_note_loader"]), ours


def test_a_lazy_load_costs_its_name_and_no_more(calls, lazy):
    ours, _ = calls(lazy)  # a query and a lazy load
    one = Counter(STATEMENT)
    assert ours <= one + one + Counter(["_note_loader", "<lambda>"]), ours


def test_telling_connections_of_their_statements_costs_no_call(calls, core):
    checkout = Checkout("items", None, 0.0)

    class Checkouts(dict):
        def get(self, _key):
            checkout.record = self["current"].get()
            return checkout

    checkouts = Checkouts()
    ours, _ = calls(core, checkouts=checkouts)
    assert ours <= Counter(STATEMENT), ours
    assert len(checkout.statements) == 2


def test_a_comment_costs_three_calls(calls, core):
    ours, _ = calls(core, comments=Comments(lambda _: "/items/{id}"))
    comment = {"Comments.of.<locals>.comment": 1, "Comments._text": 1, "Comments._encoded_route": 1}
    assert ours <= Counter(STATEMENT) + Counter(comment), ours


@pytest.mark.parametrize("work", ["core", "orm"])
def test_sqlalchemy_takes_no_slower_path(calls, request, work):
    work = request.getfixturevalue(work)
    _, bare = calls(work, captured=False)
    ours, captured = calls(work)
    assert captured - bare == ours


@pytest.mark.parametrize("work", ["core", "orm", "lazy"])
def test_outside_of_a_record_a_statement_costs_one_call(calls, request, work):
    ours, _ = calls(request.getfixturevalue(work), in_record=False)
    assert ours == {"Capture._executing.<locals>.wrapper": 2 if work == "lazy" else 1}


def test_the_count_is_the_same_each_time(calls, orm):
    assert calls(orm) == calls(orm)
