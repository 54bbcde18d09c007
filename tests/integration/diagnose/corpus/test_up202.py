"""UP202: a page deep in a table by OFFSET."""

from __future__ import annotations

from sqlalchemy import insert, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, joinedload, mapped_column, relationship
from sqlalchemy.schema import ForeignKey

ROWS = 3_000


class Base(DeclarativeBase):
    pass


class Author(Base):
    __tablename__ = "author"
    id: Mapped[int] = mapped_column(primary_key=True)
    books: Mapped[list[Book]] = relationship()


class Book(Base):
    __tablename__ = "book"
    id: Mapped[int] = mapped_column(primary_key=True)
    author_id: Mapped[int] = mapped_column(ForeignKey("author.id"))


def fill(session):
    session.execute(insert(Author), [{"id": number} for number in range(1, ROWS + 1)])


def test_a_page_far_from_the_first(corpus):
    def work(session):
        session.scalars(select(Author).order_by(Author.id).limit(20).offset(2_500)).all()  # UP202

    corpus.work(corpus.sqlite(Base, fill), work)


def test_an_async_page_far_from_the_first_on_postgresql(corpus):
    async def work(session):
        page = select(Author).order_by(Author.id).limit(20).offset(2_500)
        (await session.scalars(page)).all()  # UP202

    corpus.work(corpus.async_postgres(Base, fill), work)


def test_a_page_with_a_joined_collection(corpus):
    def work(session):
        page = select(Author).options(joinedload(Author.books)).order_by(Author.id).limit(20).offset(2_500)
        session.scalars(page).unique().all()  # UP202

    corpus.work(corpus.postgres(Base, fill), work)


def test_an_offset_in_a_text(corpus):
    def work(session):
        session.execute(text("SELECT id FROM author ORDER BY id LIMIT 20 OFFSET 2500")).all()  # UP202

    corpus.work(corpus.sqlite(Base, fill), work)


def test_a_page_near_the_first(corpus):
    def work(session):
        session.scalars(select(Author).order_by(Author.id).limit(20).offset(40)).all()

    corpus.work(corpus.sqlite(Base, fill), work)


def test_a_page_by_key(corpus):
    def work(session):
        session.scalars(select(Author).where(Author.id > 2_500).order_by(Author.id).limit(20)).all()

    corpus.work(corpus.postgres(Base, fill), work)


def test_a_large_part_of_a_table(corpus):
    def work(session):
        session.scalars(select(Author).order_by(Author.id).limit(900).offset(1_800)).all()

    corpus.work(corpus.sqlite(Base, fill), work)
