"""What a complete record tells of its statements beyond their time: who asked, and on which connection.

These tests also run on the oldest SQLAlchemy that is supported (`make contract`).
"""

from __future__ import annotations

import gc
import weakref
from contextvars import ContextVar

import pytest
from sqlalchemy import ForeignKey, create_engine, insert, select, text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    joinedload,
    mapped_column,
    relationship,
    selectinload,
)
from sqlalchemy.pool import QueuePool

from upshift.record import MAX_STATEMENTS, Record
from upshift.record.completion import complete
from upshift.sql.capture.capture import Capture
from upshift.sql.capture.transactions import Transactions
from upshift.sql.pool.pools import Pools


class Base(DeclarativeBase):
    pass


class Author(Base):
    __tablename__ = "author"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    life: Mapped[str] = mapped_column(deferred=True)
    books: Mapped[list[Book]] = relationship(order_by="Book.id", back_populates="author")
    prizes: Mapped[list[Prize]] = relationship()


class Book(Base):
    __tablename__ = "book"
    id: Mapped[int] = mapped_column(primary_key=True)
    author_id: Mapped[int] = mapped_column(ForeignKey("author.id"))
    author: Mapped[Author] = relationship(back_populates="books")
    chapters: Mapped[list[Chapter]] = relationship()


class Chapter(Base):
    __tablename__ = "chapter"
    id: Mapped[int] = mapped_column(primary_key=True)
    book_id: Mapped[int] = mapped_column(ForeignKey("book.id"))


class Prize(Base):
    __tablename__ = "prize"
    id: Mapped[int] = mapped_column(primary_key=True)
    author_id: Mapped[int] = mapped_column(ForeignKey("author.id"))


class Silent:
    def connection_returned(self, checkout):
        pass

    def connection_created(self, pool, seconds):
        pass

    def connection_timed_out(self, pool):
        pass


class Observed:
    """An engine, and the record of whatever is done with it."""

    def __init__(self, engine):
        self.engine = engine
        self.current = ContextVar("current", default=None)
        self.pools = Pools([engine], self.current, Silent())
        checkouts = self.pools.checkouts
        self.transactions = Transactions([engine], checkouts, lambda *_: None)
        self.capture = Capture([engine], self.current, checkouts=checkouts)

    def record(self):
        record = Record("GET", "/", 0.0)
        self.current.set(record)
        return record

    def complete(self, record):
        record.is_closed = True
        complete(record)
        return record

    def close(self):
        for each in (self.capture, self.transactions, self.pools):
            each.close()
            assert each.faults == 0


def fill(connection):
    Base.metadata.create_all(connection)
    connection.execute(insert(Author), [{"id": n, "name": f"a{n}", "life": "long"} for n in (1, 2, 3)])
    connection.execute(insert(Book), [{"id": n, "author_id": n % 3 + 1} for n in range(6)])
    connection.execute(insert(Prize), [{"id": n, "author_id": n % 3 + 1} for n in range(6)])


@pytest.fixture
def observed(tmp_path):
    engine = create_engine(f"sqlite:///{tmp_path}/books.db", poolclass=QueuePool)
    with engine.begin() as connection:
        fill(connection)
    observed = Observed(engine)
    yield observed
    observed.close()
    engine.dispose()


@pytest.fixture
def told(observed):
    """A function that runs some work in a session, within a record, and returns the complete record."""

    def run(work):
        record = observed.record()
        with Session(observed.engine) as session:
            work(session)
        return observed.complete(record)

    return run


def loads_of(record):
    return [each.object_load and tuple(each.object_load) for each in record.statements]


def test_a_get_is_told_with_its_class(told):
    record = told(lambda session: (session.get(Author, 1), session.get(Author, 99)))
    assert loads_of(record) == [("Author", "get"), ("Author", "get")]


def test_a_query_for_a_key_is_no_get(told):
    record = told(lambda session: session.scalars(select(Author).where(Author.id == 1)).all())
    assert loads_of(record) == [None]


def test_an_object_expired_by_a_commit_is_told_when_it_is_read(told):
    def work(session):
        authors = session.scalars(select(Author)).all()
        session.commit()
        assert [author.name for author in authors] == ["a1", "a2", "a3"]

    assert loads_of(told(work)) == [None, *[("Author", "expired")] * 3]


def test_an_expired_object_that_a_get_finds_is_expired(told):
    def work(session):
        author = session.get(Author, 1)
        session.commit()
        assert session.get(Author, 1) is author

    assert loads_of(told(work)) == [("Author", "get"), ("Author", "expired")]


def test_an_expired_object_that_came_by_a_relationship_is_told_too(told):
    def work(session):
        (book,) = session.scalars(select(Author).where(Author.id == 1)).one().books[:1]
        session.commit()
        assert book.author_id == 1

    *_, last = told(work).statements
    assert tuple(last.object_load) == ("Book", "expired")
    assert not last.is_eager


def test_a_refresh_is_told_from_what_a_commit_did(told):
    def work(session):
        author = session.get(Author, 1)
        session.commit()
        session.refresh(author)

    assert loads_of(told(work)) == [("Author", "get"), ("Author", "refresh")]


def test_a_refresh_with_eager_loads_tells_of_the_object_only(told):
    def work(session):
        author = session.get(Author, 1, options=[selectinload(Author.books)])
        session.refresh(author)

    record = told(work)
    assert loads_of(record) == [("Author", "get"), None, ("Author", "refresh"), None]
    assert record.statements[1].is_eager
    assert record.statements[3].lazy_load.relationship == "Author.books"  # so SQLAlchemy does after a refresh


def test_a_deferred_column_is_told_as_a_load_of_columns(told):
    record = told(lambda session: [author.life for author in session.scalars(select(Author))])
    assert loads_of(record) == [None, *[("Author", "columns")] * 3]


def test_a_lazy_load_is_no_load_by_key(told):
    record = told(lambda session: session.scalars(select(Book).where(Book.id == 1)).one().author)
    assert [each.lazy_load and each.lazy_load.relationship for each in record.statements] == [
        None,
        "Book.author",
    ]
    assert loads_of(record) == [None, None]


def test_the_same_select_with_the_same_parameters_is_told_from_one_with_others(told):
    def work(session):
        for number in (1, 2, 1):
            session.execute(select(Author.name).where(Author.id == number)).all()

    first, second, third = (each.fingerprint for each in told(work).statements)
    assert first == third != second
    assert None not in {first, second}


def test_no_parameter_outlives_the_request(told):
    record = told(
        lambda session: [session.execute(select(Author).where(Author.id == 1)).all() for _ in range(3)]
    )
    assert (
        {each.bound for each in record.statements}
        == {each.parameters for each in record.statements}
        == {None}
    )


def test_writes_and_many_sets_of_parameters_are_not_referred_to(observed):
    record = observed.record()
    with observed.engine.begin() as connection:
        connection.execute(insert(Author).values(id=7, name="a", life=""))
        connection.execute(insert(Author), [{"id": n, "name": "a", "life": ""} for n in (8, 9)])
        connection.execute(text("SELECT 1")).all()
        connection.exec_driver_sql("SELECT :a", {"a": 1}).all()
    assert [each.bound for each in record.statements] == [None, None, (), None]


def test_a_mapping_of_somebody_elses_that_changes_is_no_repetition(observed):
    record = observed.record()
    with observed.engine.connect() as connection:
        parameters = {"a": 1}
        connection.exec_driver_sql("SELECT :a", parameters).all()
        parameters["a"] = 2
        connection.exec_driver_sql("SELECT :a", parameters).all()
    observed.complete(record)
    assert [each.fingerprint for each in record.statements] == [None, None]


def test_each_use_of_a_connection_is_told_with_its_statements_and_transactions(told):
    def work(session):
        session.get(Author, 1).name = "x"
        session.commit()
        session.get(Author, 2)

    record = told(work)
    first, second = record.holds
    assert first.statements + second.statements == record.statements
    assert [each.outcome for each in first.transactions] == ["commit"]
    assert [each.outcome for each in second.transactions] == ["close"]
    assert first.is_returned
    assert second.is_returned


def test_a_commit_is_told_with_its_line_and_its_statements(told):
    record = told(lambda session: (session.get(Author, 1), session.commit()))
    ((transaction,),) = (hold.transactions for hold in record.holds)
    assert transaction.site.file == __file__
    assert transaction.site.function.endswith("<lambda>")
    assert (transaction.first, transaction.after) == (0, 1)


def test_each_transaction_of_one_connection_has_its_own_statements(observed):
    record = observed.record()
    with observed.engine.connect() as connection:
        for count in (1, 2):
            for _ in range(count):
                connection.execute(select(Author.id)).all()
            connection.commit()
        connection.begin().commit()  # without a statement: not worth telling
    (hold,) = observed.complete(record).holds
    assert [(each.first, each.after) for each in hold.transactions] == [(0, 1), (1, 3)]


def test_a_connection_that_is_still_in_use_is_told_as_not_returned(observed):
    record = observed.record()
    connection = observed.engine.connect()
    connection.execute(select(Author.id)).all()
    (hold,) = observed.complete(record).holds
    connection.close()
    assert not hold.is_returned
    assert hold.began > 0


def test_a_connection_that_outlives_its_request_gathers_nothing_more(observed):
    record = observed.record()
    with observed.engine.connect() as connection:
        connection.execute(select(Author.id)).all()
        observed.complete(record)
        connection.execute(select(Author.id)).all()
        (hold,) = record.holds
        assert len(hold.statements) == 1


def test_what_is_gathered_has_the_bound_of_the_records_statements(observed):
    record = observed.record()
    with observed.engine.connect() as connection:
        for _ in range(MAX_STATEMENTS + 10):
            connection.exec_driver_sql("SELECT 1")
            connection.commit()
    (hold,) = observed.complete(record).holds
    assert len(hold.statements) <= MAX_STATEMENTS + 1
    assert len(hold.transactions) <= MAX_STATEMENTS + 1


def test_a_record_does_not_wait_for_the_garbage_collector(observed):
    class Watched(Record):
        __slots__ = ("__weakref__",)

    gc.disable()
    try:
        record = Watched("GET", "/", 0.0)
        observed.current.set(record)
        with observed.engine.connect() as connection:
            connection.execute(select(Author.id)).all()
        observed.complete(record)
        observed.current.set(None)
        seen = weakref.ref(record)
        del record
        assert seen() is None
    finally:
        gc.enable()


async def test_an_async_session_tells_the_same(tmp_path):
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/books.db")
    async with engine.begin() as connection:
        await connection.run_sync(fill)
    observed = Observed(engine.sync_engine)
    record = observed.record()
    async with AsyncSession(engine) as session:
        author = await session.get(Author, 1)
        await session.commit()
        await session.refresh(author)
    observed.complete(record)
    observed.close()
    await engine.dispose()
    assert loads_of(record) == [("Author", "get"), ("Author", "refresh")]
    assert [each.outcome for hold in record.holds for each in hold.transactions] == ["commit", "close"]
    assert record.holds[0].transactions[0].site.file == __file__


@pytest.fixture
def products(observed):
    """A function that tells what joined eager loads made of the rows of one query."""

    def product_of(query):
        record = observed.record()
        with Session(observed.engine) as session:
            session.scalars(query).unique().all()
        (statement,) = record.statements
        return statement.product

    return product_of


def test_two_joined_collections_are_told_with_their_rows_and_objects(products):
    query = select(Author).options(joinedload(Author.books), joinedload(Author.prizes))
    assert products(query) == (("Author.books", "Author.prizes"), 12, 3 + 6 + 6)


def test_so_are_those_of_a_page(products):
    query = select(Author).options(joinedload(Author.books), joinedload(Author.prizes)).limit(2)
    assert products(query) == (("Author.books", "Author.prizes"), 8, 2 + 4 + 4)


def test_collections_behind_different_objects_are_side_by_side_too(products):
    author = joinedload(Book.author)
    query = select(Book).options(author.joinedload(Author.prizes), joinedload(Book.chapters))
    assert products(query).collections == ("Author.prizes", "Book.chapters")


@pytest.mark.parametrize(
    "options",
    [
        (joinedload(Author.books),),
        (joinedload(Author.books).joinedload(Book.chapters),),
        (joinedload(Author.books).joinedload(Book.author),),
        (),
    ],
)
def test_collections_within_each_other_are_no_product(products, options):
    assert products(select(Author).options(*options)) is None


def test_rows_that_sqlalchemy_sends_of_a_list_are_told_as_its(observed):
    record = observed.record()
    with Session(observed.engine) as session:
        session.add_all(Prize(author_id=1) for _ in range(3))
        session.flush()
        session.execute(insert(Prize).values(author_id=1))
    *of_the_list, alone = record.statements
    assert of_the_list
    assert all(each.is_bulk for each in of_the_list)
    assert not alone.is_bulk
