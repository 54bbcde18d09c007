"""UP107: reloads of objects that a commit has expired."""

from __future__ import annotations

from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

ROWS = 5


class Base(DeclarativeBase):
    pass


class Author(Base):
    __tablename__ = "author"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(default="somebody")
    books: Mapped[int] = mapped_column(default=0)


def fill(session):
    session.execute(insert(Author), [{"name": f"author {n}"} for n in range(ROWS)])


def test_a_page_that_is_read_after_a_commit(corpus):
    def work(session):
        authors = session.scalars(select(Author)).all()
        authors[0].name = "new"
        session.commit()
        assert [author.name for author in authors]  # UP107

    corpus.work(corpus.sqlite(Base, fill), work)


def test_an_async_page_on_postgresql_that_is_read_after_a_commit(corpus):
    async def work(session):
        authors = (await session.scalars(select(Author))).all()
        await session.commit()
        await session.run_sync(lambda _: [author.name for author in authors])  # UP107

    corpus.work(corpus.async_postgres(Base, fill), work)


def test_a_page_that_is_read_after_a_rollback(corpus):
    def work(session):
        authors = session.scalars(select(Author)).all()
        session.rollback()
        for author in authors:
            assert author.name  # UP107

    corpus.work(corpus.sqlite(Base, fill), work)


def test_a_session_that_expires_nothing(corpus):
    engine = corpus.sqlite(Base, fill)

    def work(_):
        with Session(engine, expire_on_commit=False) as session:
            authors = session.scalars(select(Author)).all()
            authors[0].name = "new"
            session.commit()
            assert [author.name for author in authors]

    corpus.work(engine, work)


def test_an_async_session_that_expires_nothing(corpus):
    engine = corpus.async_sqlite(Base, fill)

    async def work(_):
        async with AsyncSession(engine, expire_on_commit=False) as session:
            authors = (await session.scalars(select(Author))).all()
            await session.commit()
            assert [author.name for author in authors]

    corpus.work(engine, work)


def test_one_object_that_is_read_after_its_commit(corpus):
    def work(session):
        author = session.get_one(Author, 1)
        author.name = "new"
        session.commit()
        assert author.name == "new"

    corpus.work(corpus.postgres(Base, fill), work)


def test_a_page_that_is_reloaded_together(corpus):
    def work(session):
        authors = session.scalars(select(Author)).all()
        session.commit()
        session.scalars(select(Author).execution_options(populate_existing=True)).all()
        assert [author.name for author in authors]

    corpus.work(corpus.sqlite(Base, fill), work)


def test_a_page_that_batching_reloads(corpus):
    def work(session):
        authors = session.scalars(select(Author)).all()
        session.commit()
        assert [author.name for author in authors]

    corpus.work(corpus.sqlite(Base, fill), work, batching=True)
