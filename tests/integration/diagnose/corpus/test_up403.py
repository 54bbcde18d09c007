"""UP403: a connection held while the request waits for something else."""

from __future__ import annotations

import asyncio
import time

from fastapi import Depends, FastAPI
from fastapi.responses import PlainTextResponse
from sqlalchemy import func, insert, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from starlette.applications import Starlette
from starlette.responses import StreamingResponse
from starlette.routing import Route

NEVER = 60.0


class Base(DeclarativeBase):
    pass


class Author(Base):
    __tablename__ = "author"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


def fill(session):
    session.execute(insert(Author), [{"name": f"author {number}"} for number in range(500)])


def test_a_wait_after_a_read(corpus):
    async def work(session):
        (await session.execute(select(Author.name).where(Author.id == 1))).one()  # UP403
        await asyncio.sleep(0.3)

    corpus.work(corpus.async_postgres(Base, fill), work, idle_connection_seconds=0.25)


def test_a_wait_before_the_first_statement_is_the_endpoints(corpus):
    engine = corpus.sqlite(Base, fill)

    def endpoint(request):  # UP403
        with engine.connect() as connection:
            time.sleep(0.3)
            connection.execute(select(Author.id).limit(1)).all()
        return PlainTextResponse("done")

    app = Starlette(routes=[Route("/", endpoint)])
    corpus.app(app, "/", engine=engine, idle_connection_seconds=0.25)


def test_a_session_of_a_dependency_that_ends_after_the_endpoint(corpus):
    engine = corpus.async_sqlite(Base, fill)
    app = FastAPI()

    async def session():
        async with AsyncSession(engine) as session:
            yield session

    @app.get("/", response_class=PlainTextResponse)
    async def endpoint(session=Depends(session)):
        name = await session.scalar(select(Author.name).where(Author.id == 1))  # UP403
        await asyncio.sleep(0.3)
        return name

    corpus.app(app, "/", engine=engine, idle_connection_seconds=0.25)


def test_rows_that_are_streamed_to_a_slow_client(corpus):
    engine = corpus.postgres(Base, fill)

    def rows():
        with Session(engine) as session:
            query = select(Author.name).execution_options(yield_per=100)
            for number, name in enumerate(session.scalars(query)):  # UP403
                if not number % 100:
                    time.sleep(0.1)  # as if the client were slow
                yield name

    app = Starlette(routes=[Route("/", lambda request: StreamingResponse(rows(), media_type="image/x"))])
    (finding,) = corpus.app(app, "/", engine=engine, idle_connection_seconds=0.25)
    assert finding.data["is_streaming"]


def test_a_session_that_ends_before_the_wait(corpus):
    engine = corpus.async_postgres(Base, fill)

    async def work(_):
        async with AsyncSession(engine) as session:
            (await session.execute(select(Author.name).where(Author.id == 1))).one()
        await asyncio.sleep(0.3)

    corpus.work(engine, work, idle_connection_seconds=0.25)


def test_a_session_that_gives_its_connection_back(corpus):
    def work(session):
        session.execute(select(Author.name).where(Author.id == 1)).one()
        session.rollback()
        time.sleep(0.3)

    corpus.work(corpus.sqlite(Base, fill), work, idle_connection_seconds=0.25)


def test_the_database_itself_takes_long(corpus):
    def work(session):
        session.execute(select(func.pg_sleep(0.3))).one()

    corpus.work(corpus.postgres(Base, fill), work, idle_connection_seconds=0.25)


def test_a_computation_that_is_shorter_than_the_threshold(corpus):
    def work(session):
        names = session.scalars(select(Author.name).limit(100)).all()
        assert sorted(names)

    corpus.work(corpus.sqlite(Base, fill), work, idle_connection_seconds=NEVER)
