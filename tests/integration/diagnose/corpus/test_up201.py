"""UP201: a missing index."""

from __future__ import annotations

from sqlalchemy import insert, select
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
