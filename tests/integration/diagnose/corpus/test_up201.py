"""UP201: a missing index."""

from __future__ import annotations

from sqlalchemy import func, insert, select
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

ROWS = 20_000


class Base(DeclarativeBase):
    pass


class Event(Base):
    __tablename__ = "event"
    id: Mapped[int] = mapped_column(primary_key=True)
    owner: Mapped[int]
    kind: Mapped[int] = mapped_column(index=True)


def fill(session):
    session.execute(insert(Event), [{"id": n, "owner": n % 5000, "kind": n % 5000} for n in range(ROWS)])


def test_a_condition_that_no_index_serves(corpus):
    def work(session):
        session.scalars(select(Event).where(Event.owner == 7)).all()  # UP201

    corpus.work(corpus.postgres(Base, fill), work, advise=True, keep_parameters=True)


def test_a_condition_that_an_index_serves(corpus):
    def work(session):
        session.scalars(select(Event).where(Event.kind == 7)).all()

    corpus.work(corpus.postgres(Base, fill), work, advise=True, keep_parameters=True)


class Member(Base):
    __tablename__ = "member"
    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(index=True)


def members(session):
    session.execute(insert(Member), [{"id": n, "email": f"User{n}@Example.org"} for n in range(ROWS)])


def test_a_function_of_an_indexed_column(corpus):
    def work(session):
        session.scalars(select(Member).where(func.lower(Member.email) == "user7@example.org")).all()  # UP201

    corpus.work(corpus.sqlite(Base, members), work, advise=True, keep_parameters=True)


def test_a_condition_on_a_table_that_is_written_far_more_than_read(corpus):
    def work(session):
        session.scalars(select(Event).where(Event.owner == 7)).all()
        rows = [{"id": ROWS + n, "owner": n % 5000, "kind": 0} for n in range(ROWS)]
        session.execute(insert(Event), rows)

    corpus.work(corpus.postgres(Base, fill), work, advise=True, keep_parameters=True)
