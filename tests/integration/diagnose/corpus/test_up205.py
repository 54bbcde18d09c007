"""UP205: a function on an indexed column."""

from __future__ import annotations

from datetime import date, datetime, timedelta

from sqlalchemy import cast, func, insert, select, text, types
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

DAY = datetime(2026, 1, 1)  # noqa: DTZ001 - the column has no time zone


class Base(DeclarativeBase):
    pass


class Author(Base):
    __tablename__ = "author"
    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(index=True)
    city: Mapped[str]
    born: Mapped[datetime] = mapped_column(index=True)


def fill(session):
    rows = [
        {"email": f"A{number}@example.org", "city": "X", "born": DAY + timedelta(hours=number)}
        for number in range(50)
    ]
    session.execute(insert(Author), rows)


def fill_and_index(session):
    fill(session)
    session.execute(text("CREATE INDEX ix_author_lower ON author (lower(email))"))


def test_lower_of_an_indexed_column(corpus):
    def work(session):
        found = select(Author).where(func.lower(Author.email) == "a7@example.org")
        assert session.scalars(found).one()  # UP205

    corpus.work(corpus.postgres(Base, fill), work, catalog=True)


def test_the_date_of_an_indexed_time(corpus):
    def work(session):
        session.scalars(select(Author).where(func.date(Author.born) == "2026-01-01")).all()  # UP205

    corpus.work(corpus.sqlite(Base, fill), work, catalog=True)


def test_a_cast_of_an_indexed_column(corpus):
    async def work(session):
        found = select(Author.id).where(cast(Author.born, types.Date) == date(2026, 1, 1))
        (await session.execute(found)).all()  # UP205

    corpus.work(corpus.async_postgres(Base, fill), work, catalog=True)


def test_without_the_catalogue_nothing_is_said(corpus):
    def work(session):
        session.scalars(select(Author).where(func.lower(Author.email) == "a7@example.org")).one()

    corpus.work(corpus.postgres(Base, fill), work)


def test_an_index_on_the_expression(corpus):
    def work(session):
        session.scalars(select(Author).where(func.lower(Author.email) == "a7@example.org")).one()

    corpus.work(corpus.postgres(Base, fill_and_index), work, catalog=True)


def test_an_index_on_the_expression_in_sqlite(corpus):
    def work(session):
        session.scalars(select(Author).where(func.lower(Author.email) == "a7@example.org")).one()

    corpus.work(corpus.sqlite(Base, fill_and_index), work, catalog=True)


def test_a_column_without_an_index(corpus):
    def work(session):
        session.scalars(select(Author).where(func.lower(Author.city) == "nowhere")).all()

    corpus.work(corpus.postgres(Base, fill), work, catalog=True)


def test_a_range_of_the_bare_column_and_a_function_of_the_value(corpus):
    def work(session):
        session.scalars(
            select(Author).where(Author.born >= DAY, Author.email == func.lower("A7@EXAMPLE.ORG"))
        ).all()

    corpus.work(corpus.sqlite(Base, fill), work, catalog=True)
