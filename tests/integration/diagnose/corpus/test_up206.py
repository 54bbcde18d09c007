"""UP206: a large result without a LIMIT."""

from __future__ import annotations

from sqlalchemy import ForeignKey, func, insert, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship, selectinload
from starlette.applications import Starlette
from starlette.responses import StreamingResponse
from starlette.routing import Route

ROWS = 1_200


class Base(DeclarativeBase):
    pass


class Author(Base):
    __tablename__ = "author"
    id: Mapped[int] = mapped_column(primary_key=True)
    books: Mapped[list[Book]] = relationship()


class Book(Base):
    __tablename__ = "book"
    id: Mapped[int] = mapped_column(primary_key=True)
    author_id: Mapped[int] = mapped_column(ForeignKey("author.id"))


def fill(session):
    session.execute(insert(Author), [{"id": number} for number in range(1, 4)])
    session.execute(insert(Book), [{"author_id": 1} for _ in range(ROWS)])


def test_a_whole_table(corpus):
    def work(session):
        session.scalars(select(Book)).all()  # UP206

    corpus.work(corpus.sqlite(Base, fill), work)


def test_rows_of_one_author_on_postgresql(corpus):
    async def work(session):
        (await session.execute(select(Book.id).where(Book.author_id == 1).order_by(Book.id))).all()  # UP206

    corpus.work(corpus.async_postgres(Base, fill), work)


def test_a_collection_that_is_loaded_whole(corpus):
    def work(session):
        assert session.get_one(Author, 1).books  # UP206

    corpus.work(corpus.sqlite(Base, fill), work)


def test_a_page(corpus):
    def work(session):
        session.scalars(select(Book).order_by(Book.id).limit(1_100)).all()

    corpus.work(corpus.sqlite(Base, fill), work)


def test_aggregates_and_groups(corpus):
    def work(session):
        session.execute(select(func.count(Book.id))).one()
        session.execute(select(Book.id, func.count()).group_by(Book.id)).all()

    corpus.work(corpus.postgres(Base, fill), work)


def test_a_small_table(corpus):
    def work(session):
        session.scalars(select(Author)).all()

    corpus.work(corpus.sqlite(Base, fill), work)


def test_a_list_of_keys(corpus):
    def work(session):
        session.scalars(select(Book).where(Book.id.in_(range(1, 1_101)))).all()

    corpus.work(corpus.postgres(Base, fill), work)


def test_an_eager_load(corpus):
    def work(session):
        session.scalars(select(Author).options(selectinload(Author.books)).limit(3)).all()

    corpus.work(corpus.sqlite(Base, fill), work)


def test_a_stream_of_all_rows(corpus):
    engine = corpus.sqlite(Base, fill)

    def rows():
        with Session(engine) as session:
            for number in session.scalars(select(Book.id).execution_options(yield_per=100)):
                yield f"{number}\n"

    app = Starlette(routes=[Route("/", lambda request: StreamingResponse(rows(), media_type="image/x"))])
    corpus.app(app, "/", engine=engine, idle_connection_seconds=60)
