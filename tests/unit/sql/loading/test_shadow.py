"""Shadow mode: the application gets lazy values, and what batching would have given is compared."""

from __future__ import annotations

import logging

import pytest
from sqlalchemy import Float, ForeignKey, String, TypeDecorator, create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship
from sqlalchemy.pool import StaticPool

from upshift.sql.loading.batching import Batching
from upshift.sql.loading.shadow import MAX_DIFFERENCES, Difference


class Base(DeclarativeBase):
    pass


class Author(Base):
    __tablename__ = "author"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    books: Mapped[list[Book]] = relationship(order_by="Book.id", back_populates="author")


class Point:
    """A value whose `==` is no truth value, as that of an array."""

    def __init__(self, text):
        self.text = text

    def __eq__(self, other):
        raise TypeError("compare the texts")

    __hash__ = None


class PointType(TypeDecorator):
    impl = String
    cache_ok = True

    def process_bind_param(self, value, _dialect):
        return value.text

    def process_result_value(self, value, _dialect):
        return Point(value)

    def compare_values(self, one, other):
        return one.text == other.text


class NoNumber(TypeDecorator):
    impl = Float
    cache_ok = True

    def process_result_value(self, _value, _dialect):
        return float("nan")


class Place(Base):
    __tablename__ = "place"
    id: Mapped[int] = mapped_column(primary_key=True)
    point: Mapped[Point] = mapped_column(PointType)
    height: Mapped[float] = mapped_column(NoNumber)


class Book(Base):
    __tablename__ = "book"
    id: Mapped[int] = mapped_column(primary_key=True)
    author_id: Mapped[int] = mapped_column(ForeignKey("author.id"))
    author: Mapped[Author] = relationship(back_populates="books")


@pytest.fixture
def engine():
    engine = create_engine("sqlite://", poolclass=StaticPool)
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add_all(Author(id=i, name=f"author {i}", books=[Book(), Book()]) for i in range(1, 31))
        session.commit()
    yield engine
    engine.dispose()


@pytest.fixture
def shadow(engine):
    batching = Batching([engine], shadow=True)
    yield batching.shadow
    batching.close()
    assert batching.faults == 0


def authors(session):
    return session.scalars(select(Author).order_by(Author.id)).all()


def behind_its_back(session, sql):
    """Change what the session does not know of, as another transaction would."""
    session.connection().exec_driver_sql(sql)


def test_equal_values_are_counted_and_nothing_is_said(engine, shadow):
    with Session(engine) as session:
        assert [len(author.books) for author in authors(session)] == [2] * 30

    assert shadow.compared >= 28
    assert shadow.different == 0
    assert not shadow.differences


def test_each_object_is_loaded_lazily_as_well(engine, shadow, statements):
    with Session(engine) as session, statements(engine) as sent:
        assert len([author.books for author in authors(session)]) == 30

    assert sum("IN (" not in sql for sql in sent) == 1 + 30


def test_many_to_ones_are_compared_too(engine, shadow):
    with Session(engine) as session:
        books = session.scalars(select(Book)).all()
        assert [book.author.name for book in books if book.author_id == 30] == ["author 30"] * 2

    assert shadow.different == 0


def test_the_application_gets_the_lazy_value_of_what_differs(engine, shadow, caplog):
    with Session(engine) as session, caplog.at_level(logging.WARNING, "upshift.sql"):
        found = authors(session)
        assert [len(author.books) for author in found[:3]] == [2, 2, 2]
        behind_its_back(session, "DELETE FROM book WHERE author_id = 5")

        assert found[4].books == []

    assert list(shadow.differences) == [
        Difference("Author.books", (5,), "0 objects lazily, 2 batched, 0 in both")
    ]
    assert "Author.books: 0 objects lazily, 2 batched" in caplog.text


def test_refreshes_are_compared_by_the_names_of_columns(engine, shadow):
    with Session(engine) as session:
        found = authors(session)
        session.commit()
        assert [author.name for author in found[:3]] == ["author 1", "author 2", "author 3"]
        behind_its_back(session, "UPDATE author SET name = 'renamed' WHERE id = 5")

        assert found[4].name == "renamed"

    assert list(shadow.differences) == [Difference("Author", (5,), "name")]


def test_values_are_compared_as_their_types_say(engine, shadow):
    with Session(engine) as session:
        session.add_all(Place(point=Point(f"{i} {i}"), height=1.0) for i in range(10))
        session.commit()
        places = session.scalars(select(Place).order_by(Place.id)).all()
        session.commit()
        assert [place.point.text for place in places[:3]] == ["0 0", "1 1", "2 2"]
        behind_its_back(session, "UPDATE place SET point = '7 7' WHERE id = 5")
        assert places[4].point.text == "7 7"
        assert places[5].point.text == "5 5"

    assert list(shadow.differences) == [Difference("Place", (5,), "point")]


def test_differences_are_bounded_and_all_are_counted(engine, shadow, caplog):
    for _ in range(30):
        with Session(engine) as session:
            found = authors(session)
            assert found[0].books
            assert found[1].books
            behind_its_back(session, "DELETE FROM book")
            assert all(author.books == [] for author in found[2:])
            session.rollback()

    assert len(shadow.differences) == MAX_DIFFERENCES
    assert shadow.different > MAX_DIFFERENCES
    assert len([each for each in caplog.records if each.name == "upshift.sql"]) == 1
