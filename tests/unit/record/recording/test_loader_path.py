"""What stands for mapped classes in a replayed record leads to the same eager loads as they do."""

from __future__ import annotations

import msgspec
import pytest
from sqlalchemy import ForeignKey, create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, aliased, mapped_column, relationship

from upshift.diagnose.eager_loading import LoadPaths
from upshift.record.recording.decoding import Decoder
from upshift.record.recording.encoding import Encoder
from upshift.record.recording.frames import Line


class Base(DeclarativeBase):
    pass


class Person(Base):
    __tablename__ = "person"
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "person"}
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    boss_id: Mapped[int | None] = mapped_column(ForeignKey("person.id"))
    reports: Mapped[list[Person]] = relationship()


class Writer(Person):
    __tablename__ = "writer"
    __mapper_args__ = {"polymorphic_identity": "writer"}
    id: Mapped[int] = mapped_column(ForeignKey("person.id"), primary_key=True)
    books: Mapped[list[Book]] = relationship()


class Book(Base):
    __tablename__ = "book"
    id: Mapped[int] = mapped_column(primary_key=True)
    writer_id: Mapped[int] = mapped_column(ForeignKey("writer.id"))
    pages: Mapped[list[Page]] = relationship()


class Page(Base):
    __tablename__ = "page"
    book_id: Mapped[int] = mapped_column(ForeignKey("book.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)


@pytest.fixture
def session():
    engine = create_engine("sqlite://")
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        writers = [
            Writer(id=number, books=[Book(pages=[Page(number=1), Page(number=2)]) for _ in range(2)])
            for number in (1, 2, 3)
        ]
        session.add(Person(id=9, reports=writers))
        session.commit()
        session.expunge_all()
        yield session
    engine.dispose()


def nested(session):
    return [book.pages for writer in session.scalars(select(Writer)) for book in writer.books]


def of_a_subclass(session):
    return [person.books for person in session.scalars(select(Person)) if isinstance(person, Writer)]


def through_an_alias(session):
    other = aliased(Book)
    return [book.pages for book in session.scalars(select(other))]


def of_itself(session):
    return [each.reports for person in session.scalars(select(Person)) for each in person.reports]


def by_get(session):
    return [book.pages for book in session.get(Writer, 1).books]


@pytest.mark.parametrize("work", [nested, of_a_subclass, through_an_alias, of_itself, by_get])
def test_eager_loads_are_those_of_the_live_record(session, work, observed):
    live = observed(session.get_bind(), lambda: work(session))
    lazy = [statement for statement in live.statements if statement.lazy_load]
    assert lazy
    line = Encoder("", keep_parameters=False).encode(live)
    recorded = Decoder().decode(msgspec.json.decode(line, type=Line))
    expected = LoadPaths(live).eager_loads(lazy)
    assert expected
    assert (
        LoadPaths(recorded).eager_loads([each for each in recorded.statements if each.lazy_load]) == expected
    )


def test_a_path_of_an_unknown_kind_is_left_out(session, observed):
    live = observed(session.get_bind(), lambda: nested(session))
    for statement in live.statements:
        if statement.lazy_load:
            statement.lazy_load = statement.lazy_load._replace(path=("something", "new"))
    line = Encoder("", keep_parameters=False).encode(live)
    recorded = Decoder().decode(msgspec.json.decode(line, type=Line))
    assert {each.lazy_load.path for each in recorded.statements if each.lazy_load} == {()}
