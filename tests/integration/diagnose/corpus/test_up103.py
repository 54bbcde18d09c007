"""UP103: the same SELECT with the same parameters, more than once in a request."""

from __future__ import annotations

from fastapi import Depends, FastAPI
from fastapi.responses import PlainTextResponse
from sqlalchemy import func, insert, select, text, update
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

ROWS = 10


class Base(DeclarativeBase):
    pass


class Author(Base):
    __tablename__ = "author"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(default="somebody")
    books: Mapped[int] = mapped_column(default=0)


def fill(session):
    session.execute(insert(Author), [{"name": f"author {n}"} for n in range(ROWS)])


def test_a_row_that_two_lines_read(corpus):
    def work(session):
        session.execute(select(Author.name).where(Author.id == 1)).one()  # UP103
        session.execute(select(Author.name).where(Author.id == 1)).one()

    corpus.work(corpus.sqlite(Base, fill), work)


def test_a_helper_that_is_called_twice_on_postgresql(corpus):
    def settings(session):
        return session.execute(select(Author.name).where(Author.id.in_([1, 2]))).all()  # UP103

    corpus.work(corpus.postgres(Base, fill), lambda session: (settings(session), settings(session)))


def test_a_get_of_a_row_that_is_not_there(corpus):
    async def work(session):
        for _ in range(2):
            assert await session.get(Author, 99) is None  # UP103

    corpus.work(corpus.async_sqlite(Base, fill), work)


def test_two_dependencies_with_a_session_each(corpus):
    engine = corpus.sqlite(Base, fill)
    app = FastAPI()

    def user():
        with Session(engine) as session:
            return session.scalars(select(Author).where(Author.id == 1)).one()  # UP103

    @app.get("/", response_class=PlainTextResponse)
    def endpoint(first=Depends(user), second=Depends(user, use_cache=False)):
        return first.name

    corpus.app(app, "/", engine=engine)


def test_different_parameters(corpus):
    def work(session):
        for number in (1, 2):
            session.execute(select(Author.name).where(Author.id == number)).one()

    corpus.work(corpus.sqlite(Base, fill), work)


def test_a_row_that_is_read_again_after_it_was_written(corpus):
    def work(session):
        for _ in range(2):
            session.execute(select(Author.name).where(Author.id == 1)).one()
            session.execute(update(Author).where(Author.id == 1).values(name="new"))

    corpus.work(corpus.sqlite(Base, fill), work)


def test_the_same_read_in_several_requests(corpus):
    def work(session):
        session.execute(select(Author.name).where(Author.id == 1)).one()

    corpus.work(corpus.postgres(Base, fill), work, times=5)


def test_locks_and_functions_that_change_something(corpus):
    def work(session):
        for _ in range(2):
            session.execute(select(Author.id).where(Author.id == 1).with_for_update()).one()
            session.execute(select(func.pg_try_advisory_xact_lock(1))).one()
            session.execute(text("SELECT 1")).one()

    corpus.work(corpus.postgres(Base, fill), work)


def test_a_loop_over_keys_that_repeat_is_told_once(corpus):
    def work(session):
        for number in (1, 2, 1, 2, 1):
            session.execute(select(Author.name).where(Author.id == number)).one()  # UP101

    corpus.work(corpus.sqlite(Base, fill), work)
