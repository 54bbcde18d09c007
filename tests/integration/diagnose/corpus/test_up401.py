"""UP401: a long transaction."""

from __future__ import annotations

import time

from sqlalchemy import insert, select, update
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

NEVER = 60.0


class Base(DeclarativeBase):
    pass


class Author(Base):
    __tablename__ = "author"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


def fill(session):
    session.execute(insert(Author), [{"name": f"author {number}"} for number in range(5)])


def rename(session, number, name):
    session.execute(update(Author).where(Author.id == number).values(name=name))


def test_work_between_writes(corpus):
    def work(session):
        session.execute(select(Author.name).where(Author.id == 1)).one()  # UP401
        for number in range(1, 5):
            time.sleep(0.1)
            rename(session, number, "new")
        session.commit()

    corpus.work(
        corpus.postgres(Base, fill), work, long_transaction_seconds=0.3, idle_connection_seconds=NEVER
    )


def test_the_same_work_before_the_transaction(corpus):
    def work(session):
        time.sleep(0.4)
        for number in range(1, 5):
            rename(session, number, "new")
        session.commit()

    corpus.work(corpus.postgres(Base, fill), work, long_transaction_seconds=NEVER)


def test_several_short_transactions_that_are_long_together(corpus):
    def work(session):
        session.execute(update(Author).values(name="new"))
        time.sleep(0.2)
        session.commit()
        session.execute(insert(Author).values(name="another"))
        time.sleep(0.2)
        session.commit()

    corpus.work(
        corpus.sqlite(Base, fill), work, long_transaction_seconds=NEVER, idle_connection_seconds=NEVER
    )
