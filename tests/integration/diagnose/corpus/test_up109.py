"""UP109: rows inserted one statement each."""

from __future__ import annotations

from sqlalchemy import insert, select
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

ROWS = 3


class Base(DeclarativeBase):
    pass


class Author(Base):
    __tablename__ = "author"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(default="somebody")
    books: Mapped[int] = mapped_column(default=0)


def fill(session):
    session.execute(insert(Author), [{"name": f"author {n}"} for n in range(ROWS)])


def test_an_insert_for_each_row(corpus):
    def work(session):
        for number in range(5):
            session.execute(insert(Author).values(name=f"new {number}"))  # UP109
        session.commit()

    corpus.work(corpus.postgres(Base), work)


def test_a_flush_for_each_object(corpus):
    def work(session):
        for number in range(5):
            session.add(Author(name=f"new {number}"))
            session.flush()  # UP109
        session.commit()

    corpus.work(corpus.sqlite(Base), work)


def test_an_async_flush_for_each_object(corpus):
    async def work(session):
        for number in range(5):
            session.add(Author(name=f"new {number}"))
            await session.flush()  # UP109
        await session.commit()

    corpus.work(corpus.async_sqlite(Base), work)


def test_a_list_of_rows(corpus):
    def work(session):
        session.execute(insert(Author), [{"name": f"new {number}"} for number in range(50)])
        session.commit()

    corpus.work(corpus.postgres(Base), work)


def test_objects_in_one_flush(corpus):
    def work(session):
        session.add_all(Author(name=f"new {number}") for number in range(50))
        session.commit()

    corpus.work(corpus.sqlite(Base), work)


def test_an_executemany_without_keys(corpus):
    def work(session):
        for start in (0, 10, 20):
            rows = [{"id": 100 + start + number, "name": "new"} for number in range(10)]
            session.connection().execute(insert(Author.__table__), rows)
        session.commit()

    corpus.work(corpus.sqlite(Base), work)


def test_an_insert_from_a_select(corpus):
    def work(session):
        for _ in range(3):
            session.execute(insert(Author).from_select(["name"], select(Author.name)))
        session.commit()

    corpus.work(corpus.sqlite(Base, fill), work)


def test_two_rows_of_one_kind_and_one_of_another_line(corpus):
    def work(session):
        for number in range(2):
            session.execute(insert(Author).values(name=f"new {number}"))
        session.execute(insert(Author).values(name="last"))
        session.commit()

    corpus.work(corpus.sqlite(Base), work)
