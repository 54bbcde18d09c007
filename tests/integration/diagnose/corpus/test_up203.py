"""UP203: all rows counted for each page."""

from __future__ import annotations

from sqlalchemy import func, insert, select
from sqlalchemy.orm import DeclarativeBase, Mapped, joinedload, mapped_column, relationship
from sqlalchemy.schema import ForeignKey

ROWS = 100


class Base(DeclarativeBase):
    pass


class Author(Base):
    __tablename__ = "author"
    id: Mapped[int] = mapped_column(primary_key=True)


class Book(Base):
    __tablename__ = "book"
    id: Mapped[int] = mapped_column(primary_key=True)
    author_id: Mapped[int] = mapped_column(ForeignKey("author.id"))
    author: Mapped[Author] = relationship()


def fill(session):
    session.execute(insert(Author), [{"id": number} for number in range(1, 11)])
    session.execute(insert(Book), [{"author_id": 1 + number % 10} for number in range(ROWS)])


def test_a_count_beside_its_page(corpus):
    def work(session):
        session.scalar(select(func.count()).select_from(Book).where(Book.author_id == 3))  # UP203
        session.scalars(select(Book).where(Book.author_id == 3).order_by(Book.id).limit(5)).all()

    corpus.work(corpus.sqlite(Base, fill), work)


def test_a_count_of_a_subquery_beside_its_page_with_an_eager_load(corpus):
    async def work(session):
        books = select(Book).where(Book.author_id == 3)
        page = books.options(joinedload(Book.author)).order_by(Book.id).limit(5)
        assert len((await session.scalars(page)).all()) == 5
        await session.scalar(select(func.count()).select_from(books.subquery()))  # UP203

    corpus.work(corpus.async_postgres(Base, fill), work)


def test_a_count_of_a_whole_table_beside_its_page(corpus):
    def work(session):
        session.scalars(select(Book).order_by(Book.id).limit(5).offset(5)).all()
        session.scalar(select(func.count(Book.id)))  # UP203

    corpus.work(corpus.postgres(Base, fill), work)


def test_a_count_of_something_else(corpus):
    def work(session):
        session.scalar(select(func.count()).select_from(Book).where(Book.author_id == 4))
        session.scalars(select(Book).where(Book.id > 3).order_by(Book.id).limit(5)).all()

    corpus.work(corpus.sqlite(Base, fill), work)


def test_a_count_in_one_request_and_a_page_in_another(corpus):
    def count(session):
        session.scalar(select(func.count()).select_from(Book))

    def page(session):
        session.scalars(select(Book).order_by(Book.id).limit(5)).all()

    corpus.work(corpus.postgres(Base, fill), count, page)


def test_one_row_more_than_the_page(corpus):
    def work(session):
        session.scalars(select(Book).where(Book.author_id == 3).order_by(Book.id).limit(5 + 1)).all()

    corpus.work(corpus.sqlite(Base, fill), work)


def test_counts_by_group_beside_a_page(corpus):
    def work(session):
        session.execute(select(Book.author_id, func.count()).group_by(Book.author_id)).all()
        session.scalars(select(Book).order_by(Book.id).limit(5)).all()

    corpus.work(corpus.sqlite(Base, fill), work)


def test_the_latest_one_beside_the_number_of_all(corpus):
    def work(session):
        session.scalar(select(func.count()).select_from(Book).where(Book.author_id == 3))
        session.scalars(select(Book).where(Book.author_id == 3).order_by(Book.id.desc()).limit(1)).one()

    corpus.work(corpus.sqlite(Base, fill), work)
