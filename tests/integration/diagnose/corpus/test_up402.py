"""UP402: idle in transaction."""

from __future__ import annotations

import asyncio
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


def test_a_wait_after_a_write(corpus):
    def work(session):
        session.execute(update(Author).where(Author.id == 1).values(name="new"))  # UP402
        time.sleep(0.3)
        session.commit()

    corpus.work(corpus.postgres(Base, fill), work, idle_connection_seconds=0.25)


def test_an_async_wait_after_a_flush(corpus):
    async def work(session):
        session.add(Author(name="new"))
        await session.flush()  # UP402
        await asyncio.sleep(0.3)
        await session.commit()

    corpus.work(corpus.async_postgres(Base, fill), work, idle_connection_seconds=0.25)


def test_a_wait_with_a_row_locked(corpus):
    def work(session):
        session.execute(select(Author.id).where(Author.id == 1).with_for_update()).one()  # UP402
        time.sleep(0.3)

    corpus.work(corpus.postgres(Base, fill), work, idle_connection_seconds=0.25)


def test_a_wait_before_the_write(corpus):
    def work(session):
        time.sleep(0.3)
        session.execute(update(Author).where(Author.id == 1).values(name="new"))
        session.commit()

    corpus.work(corpus.postgres(Base, fill), work, idle_connection_seconds=0.25)


def test_a_wait_after_the_commit(corpus):
    async def work(session):
        session.add(Author(name="new"))
        await session.commit()
        await asyncio.sleep(0.3)

    corpus.work(corpus.async_sqlite(Base, fill), work, idle_connection_seconds=0.25)


def test_a_wait_that_is_shorter_than_the_threshold(corpus):
    def work(session):
        session.execute(update(Author).where(Author.id == 1).values(name="new"))
        time.sleep(0.01)
        session.commit()

    corpus.work(corpus.sqlite(Base, fill), work, idle_connection_seconds=NEVER)
