"""UP101: a statement repeated from one line."""

from __future__ import annotations

import pytest
from sqlalchemy import ForeignKey, insert, select
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    defer,
    joinedload,
    mapped_column,
    relationship,
    selectinload,
    subqueryload,
)

from upshift.sql import get_many

AUTHORS, BOOKS = 6, 30


class Base(DeclarativeBase):
    pass


class Author(Base):
    __tablename__ = "author"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    books: Mapped[list[Book]] = relationship(back_populates="author")


class Book(Base):
    __tablename__ = "book"
    id: Mapped[int] = mapped_column(primary_key=True)
    author_id: Mapped[int] = mapped_column(ForeignKey("author.id"))
    author: Mapped[Author] = relationship(back_populates="books")


def fill(session):
    session.execute(insert(Author), [{"id": n, "name": f"author {n}"} for n in range(AUTHORS)])
    session.execute(insert(Book), [{"id": n, "author_id": n % AUTHORS} for n in range(BOOKS)])


def test_a_lazy_load_for_each_object(corpus):
    def work(session):
        for book in session.scalars(select(Book)):
            assert book.author.name  # UP101

    corpus.work(corpus.sqlite(Base, fill), work)


def test_a_lazy_load_of_each_collection_on_postgresql(corpus):
    def work(session):
        for author in session.scalars(select(Author)):
            assert len(author.books) == BOOKS // AUTHORS  # UP101

    corpus.work(corpus.postgres(Base, fill), work)


@pytest.mark.parametrize("load", [selectinload, joinedload, subqueryload])
def test_an_eager_load(corpus, load):
    def work(session):
        for author in session.scalars(select(Author).options(load(Author.books))).unique():
            assert len(author.books) == BOOKS // AUTHORS

    corpus.work(corpus.sqlite(Base, fill), work)


def test_one_object_alone_with_what_belongs_to_it(corpus):
    def work(session):
        for book in session.scalars(select(Book).where(Book.id == 1)):
            assert book.author.books

    corpus.work(corpus.sqlite(Base, fill), work)


def test_the_same_page_in_many_requests(corpus):
    def work(session):
        assert session.scalars(select(Book).where(Book.id == 1)).one().author

    corpus.work(corpus.sqlite(Base, fill), work, times=10)


def test_a_get_in_a_loop(corpus):
    async def work(session):
        for number in range(5):
            await session.get(Book, number)  # UP101

    (finding,) = corpus.work(corpus.async_postgres(Base, fill), work)
    assert finding.title == "session.get(Book, …) 5 times in one request"
    assert "get_many(session, Book, keys)" in finding.fix[0]


def test_a_query_in_a_loop(corpus):
    def work(session):
        for number in range(5):
            session.scalars(select(Book).where(Book.author_id == number)).all()  # UP101

    (finding,) = corpus.work(corpus.sqlite(Base, fill), work)
    assert "Model.author_id.in_(values)" in finding.fix[0]


def test_a_refresh_in_a_loop(corpus):
    def work(session):
        for author in session.scalars(select(Author)).all():
            session.refresh(author)  # UP101

    corpus.work(corpus.sqlite(Base, fill), work)


def test_deferred_columns_in_a_loop(corpus):
    def work(session):
        for author in session.scalars(select(Author).options(defer(Author.name))):
            assert author.name  # UP101

    (finding,) = corpus.work(corpus.postgres(Base, fill), work)
    assert "undefer(Author.name)" in finding.fix[0]


def test_gets_that_the_session_answers(corpus):
    def work(session):
        books = session.scalars(select(Book)).all()
        for book in books:
            assert session.get(Book, book.id) is book

    corpus.work(corpus.sqlite(Base, fill), work)


def test_one_statement_for_many_keys(corpus):
    def work(session):
        assert len(get_many(session, Book, range(5))) == 5

    corpus.work(corpus.postgres(Base, fill), work)


def test_a_loop_that_batching_answers(corpus):
    def work(session):
        for book in session.scalars(select(Book)):
            assert book.author.name

    corpus.work(corpus.sqlite(Base, fill), work, batching=True)
