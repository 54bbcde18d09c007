"""UP108: a commit for each row, in a loop."""

from __future__ import annotations

from sqlalchemy import insert, select, update
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

ROWS = 6


class Base(DeclarativeBase):
    pass


class Author(Base):
    __tablename__ = "author"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(default="somebody")
    books: Mapped[int] = mapped_column(default=0)


def fill(session):
    session.execute(insert(Author), [{"name": f"author {n}"} for n in range(ROWS)])


def test_a_commit_after_each_object(corpus):
    def work(session):
        for number in range(1, 6):
            session.execute(update(Author).where(Author.id == number).values(name="new"))
            session.commit()  # UP108

    corpus.work(corpus.sqlite(Base, fill), work)


def test_an_async_commit_after_each_new_row(corpus):
    async def work(session):
        for _ in range(5):
            session.add(Author(name="new"))
            await session.commit()  # UP108

    corpus.work(corpus.async_postgres(Base), work)


def test_a_transaction_for_each_row_of_a_connection(corpus):
    engine = corpus.sqlite(Base, fill)

    def work(_):
        for number in range(1, 6):
            with engine.begin() as connection:  # UP108
                connection.execute(update(Author).where(Author.id == number).values(name="new"))

    corpus.work(engine, work)


def test_one_commit_after_the_loop(corpus):
    def work(session):
        for number in range(1, 6):
            session.execute(update(Author).where(Author.id == number).values(name="new"))
        session.commit()

    corpus.work(corpus.postgres(Base, fill), work)


def test_a_commit_for_each_batch(corpus):
    def work(session):
        for _ in range(4):
            session.execute(insert(Author), [{"name": f"{n}"} for n in range(100)])
            session.commit()

    corpus.work(corpus.sqlite(Base, fill), work)


def test_a_savepoint_for_each_row(corpus):
    def work(session):
        for number in range(1, 6):
            with session.begin_nested():
                session.execute(update(Author).where(Author.id == number).values(name="new"))
        session.commit()

    corpus.work(corpus.postgres(Base, fill), work)


def test_commits_that_end_reading(corpus):
    def work(session):
        for number in range(1, 3):
            session.execute(select(Author.name).where(Author.id == number)).one()
            session.commit()

    corpus.work(corpus.sqlite(Base, fill), work, repeated_statements=2 + 1)


def test_commits_of_steps_that_differ(corpus):
    def work(session):
        session.execute(insert(Author).values(name="new"))
        session.commit()
        session.execute(update(Author).where(Author.id == 1).values(name="newer"))
        session.commit()
        session.execute(update(Author).where(Author.id == 2).values(books=3))
        session.commit()

    corpus.work(corpus.sqlite(Base, fill), work)
