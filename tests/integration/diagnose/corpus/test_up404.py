"""UP404: connections that are not given back."""

from __future__ import annotations

import gc
import time

import pytest
from sqlalchemy import select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column


class Base(DeclarativeBase):
    pass


class Author(Base):
    __tablename__ = "author"
    id: Mapped[int] = mapped_column(primary_key=True)


@pytest.fixture(autouse=True)
def recorded_as_well():
    """Connections in use are those of a process that runs; a recording has none."""


def test_a_connection_that_nobody_closes(corpus):
    engine = corpus.sqlite(Base)

    def work(_):
        connection = engine.connect()  # UP404
        assert connection.scalar(text("SELECT 1")) == 1
        del connection
        gc.collect()

    corpus.work(engine, work)


def test_a_session_that_nobody_closes_on_postgresql(corpus):
    engine = corpus.postgres(Base)

    def work(_):
        session = Session(engine)
        session.scalars(select(Author)).all()  # UP404
        del session
        gc.collect()

    corpus.work(engine, work)


@pytest.mark.filterwarnings(
    "ignore:The garbage collector is trying to clean up",
    "ignore::pytest.PytestUnraisableExceptionWarning",  # the driver's own, from its destructor
)
def test_an_async_connection_that_nobody_closes(corpus):
    engine = corpus.async_postgres(Base)

    async def work(_):
        connection = await engine.connect()  # UP404
        assert await connection.scalar(text("SELECT 1")) == 1
        del connection
        gc.collect()

    corpus.work(engine, work)


def test_a_connection_that_is_held_while_something_else_takes_long(corpus):
    engine = corpus.sqlite(Base)

    def work(_):
        with engine.connect():  # UP404
            time.sleep(0.1)

    corpus.work(engine, work, pool_leak_seconds=0.05)


def test_a_connection_that_is_still_out_when_somebody_looks(corpus):
    engine = corpus.sqlite(Base)
    kept = []

    def work(_):
        kept.append(engine.connect())  # UP404
        time.sleep(0.1)

    (finding,) = corpus.work(engine, work, pool_leak_seconds=0.05)
    assert (finding.data["open"], finding.routes) == (1, ("GET /work/0",))
    kept.pop().close()


def test_a_connection_in_a_with_block(corpus):
    engine = corpus.postgres(Base)

    def work(_):
        with engine.connect() as connection:
            connection.execute(text("SELECT 1"))

    corpus.work(engine, work, times=3)


def test_a_connection_that_is_closed_by_hand_though_its_statement_fails(corpus):
    engine = corpus.sqlite(Base)

    def work(_):
        connection = engine.connect()
        try:
            with pytest.raises(Exception, match="nothing"):
                connection.execute(text("SELECT * FROM nothing"))
        finally:
            connection.close()

    corpus.work(engine, work)


def test_a_session_that_was_committed_has_given_its_connection_back(corpus):
    engine = corpus.sqlite(Base)

    def work(_):
        session = Session(engine)
        session.add(Author())
        session.commit()

    corpus.work(engine, work)


def test_a_connection_that_was_thrown_away_on_purpose(corpus):
    engine = corpus.sqlite(Base)

    def work(_):
        for leave in ("invalidate", "detach"):
            connection = engine.connect()
            getattr(connection, leave)()
            connection.close()

    corpus.work(engine, work)


def test_a_connection_that_is_held_for_less_than_the_threshold(corpus):
    engine = corpus.sqlite(Base)

    def work(_):
        with engine.connect():
            time.sleep(0.1)

    corpus.work(engine, work, pool_leak_seconds=30)


def test_a_long_use_where_there_is_no_limit(corpus):
    engine = corpus.sqlite(Base)

    def work(_):
        with engine.connect():
            time.sleep(0.05)

    corpus.work(engine, work, pool_leak_seconds=0)


def test_async_sessions_that_end_with_their_block(corpus):
    async def work(session):
        assert (await session.scalars(select(Author))).all() == []

    corpus.work(corpus.async_sqlite(Base), work, times=3)
