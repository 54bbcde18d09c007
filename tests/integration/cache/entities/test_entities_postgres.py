"""Objects from the cache on a real PostgreSQL, by psycopg and asyncpg: never stale, each session's own."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from random import Random
from uuid import UUID

import pytest
from sqlalchemy import ForeignKey, create_engine, event, inspect, make_url, select, update
from sqlalchemy.exc import MissingGreenlet, StatementError
from sqlalchemy.ext.asyncio import async_scoped_session, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship, selectinload

from upshift.cache import Cache, with_cached_get

PRODUCTS = 20


class Base(DeclarativeBase):
    pass


class Product(Base):
    __tablename__ = "product"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    version: Mapped[int] = mapped_column(default=0)
    reviews: Mapped[list[Review]] = relationship(order_by="Review.id")


class Review(Base):
    __tablename__ = "review"
    id: Mapped[int] = mapped_column(primary_key=True)
    stars: Mapped[int]
    product_id: Mapped[int] = mapped_column(ForeignKey("product.id"))


class Document(Base):
    __tablename__ = "document"
    id: Mapped[UUID] = mapped_column(primary_key=True)
    parent_id: Mapped[UUID | None] = mapped_column(ForeignKey("document.id"))


@pytest.fixture
def engine(postgres_database):
    engine = create_engine(postgres_database, pool_size=20)
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add_all(Product(id=number, name=f"product {number}") for number in range(1, PRODUCTS + 1))
        session.flush()
        session.add_all([Review(stars=5, product_id=1), Review(stars=3, product_id=1)])
        session.commit()
    yield engine
    engine.dispose()


@pytest.fixture(params=["psycopg", "asyncpg"])
async def async_engine(request, engine):
    url = make_url(engine.url).set(drivername=f"postgresql+{request.param}")
    async_engine = create_async_engine(url, pool_size=20)
    yield async_engine
    await async_engine.dispose()


@pytest.fixture
def cache(engine):
    cache = Cache()
    cache.watch([engine])
    yield cache
    cache.close()


@pytest.fixture
def products(cache):
    return cache.entities(Product)


@pytest.fixture
def sent(engine):
    statements = []
    event.listen(engine, "before_cursor_execute", lambda *arguments: statements.append(arguments[2]))
    return statements


def read(engine, products, number=1):
    with Session(engine) as session:
        return products.get(session, number).version


def write(engine, number=1, version=7):
    with Session(engine) as session:
        session.execute(update(Product).where(Product.id == number).values(version=version))
        session.commit()


def test_a_commit_is_seen_by_the_next_get_and_other_rows_stay(engine, products, sent):
    for _ in range(2):
        assert [read(engine, products, number) for number in (1, 2)] == [0, 0]
    write(engine)
    sent.clear()
    assert [read(engine, products, number) for number in (1, 2)] == [7, 0]
    assert len(sent) == 1


def test_a_transaction_reads_on_from_the_cache_after_it_has_read_from_the_database(engine, products, sent):
    read(engine, products)
    with Session(engine) as session:
        session.scalars(select(Review)).all()
        sent.clear()
        assert products.get(session, 1).version == 0
        assert sent == []


def test_who_has_written_sees_it_and_nobody_else_does(engine, products):
    read(engine, products)
    with Session(engine) as session:
        session.execute(update(Product).values(version=7))
        with ThreadPoolExecutor(1) as pool:  # another context, as that of a dependency that runs in a thread
            assert pool.submit(products.get, session, 1).result().version == 7
        assert products.get_many(session, [1, 2])[1].version == 7
        assert products.select(session, select(Product).where(Product.id == 3))[0].version == 7
        assert read(engine, products) == 0
        session.rollback()
    assert [read(engine, products, number) for number in (1, 2, 3)] == [0, 0, 0]


@pytest.mark.parametrize("how", ["engine", "connection", "session"])
@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
def test_a_session_with_one_snapshot_is_not_told_what_came_after_it(
    postgres_database, engine, cache, how, level
):
    products = cache.entities(Product)
    other = create_engine(postgres_database, **({"isolation_level": level} if how == "engine" else {}))
    cache.watch([other])
    bind = other.execution_options(isolation_level=level) if how == "session" else other
    with Session(bind) as session:
        if how == "connection":
            session.connection(execution_options={"isolation_level": level})
        session.scalars(select(Review)).all()
        write(engine)
        assert read(engine, products) == 7
        assert products.get(session, 1).version == 0
        assert products.get_many(session, [1, 2])[0].version == 0
        session.expunge_all()
        assert products.select(session, select(Product).where(Product.id == 1))[0].version == 0
    assert read(engine, products) == 7
    other.dispose()


def test_what_a_session_had_read_before_is_not_kept_as_if_it_were_new(engine, products):
    with Session(engine) as session:
        old = session.get(Product, 1)
        write(engine)
        assert products.select(session, select(Product).where(Product.id == 1)) == [old]
        assert old.version == 0  # as with any query of this session
    with Session(engine) as session:
        assert products.select(session, select(Product).where(Product.id == 1))[0].version == 7


def test_a_load_that_a_commit_overtakes_is_not_kept(engine, products):
    with Session(engine) as session:

        @event.listens_for(engine, "after_cursor_execute", once=True)
        def overtake(*_):
            with ThreadPoolExecutor(1) as pool:
                pool.submit(write, engine).result()

        assert products.get(session, 1).version == 0
    assert read(engine, products) == 7


def test_options_belong_to_what_is_kept(engine, cache, sent):
    products = cache.entities(Product, options=[selectinload(Product.reviews)])

    def stars():
        with Session(engine) as session:
            return [each.stars for each in products.get(session, 1).reviews]

    assert stars() == stars() == [5, 3]
    sent.clear()
    assert stars() == [5, 3]
    assert sent == []
    with Session(engine) as session:
        session.add(Review(stars=1, product_id=1))
        session.commit()
    assert stars() == [5, 3, 1]


@pytest.fixture
def make_async(cache, async_engine):
    cache.watch([async_engine])
    return async_sessionmaker(async_engine)


@pytest.fixture
def sent_async(async_engine):
    statements = []
    event.listen(
        async_engine.sync_engine, "before_cursor_execute", lambda *arguments: statements.append(arguments[2])
    )
    return statements


async def test_async_sessions_are_answered_alike(make_async, products, sent_async):
    statement = select(Product).where(Product.id < 3).order_by(Product.id)
    for _ in range(3):
        async with make_async() as session:
            one = await products.get(session, 1)
            many = await products.get_many(session, [2, 99, 1])
            found = await products.select(session, statement)
            assert (one.name, many, found) == ("product 1", [many[0], None, one], [one, many[0]])
            assert all(each in session for each in (one, many[0]))
    assert len(sent_async) == 3
    async with make_async() as session:
        (await products.get(session, 1)).version = 7
        await session.commit()
    async with make_async() as session:
        assert (await products.get(session, 1)).version == 7


async def test_sync_and_async_sessions_share_what_is_kept(engine, make_async, products, sent_async):
    read(engine, products)
    async with make_async() as session:
        assert (await products.get(session, 1)).name == "product 1"
    assert sent_async == []
    write(engine)
    async with make_async() as session:
        assert (await products.get(session, 1)).version == 7


async def test_unread_relationships_are_as_those_of_any_object(make_async, products):
    for _ in range(2):
        async with make_async() as session:
            product = await products.get(session, 1)
            with pytest.raises((MissingGreenlet, StatementError), match="greenlet_spawn"):
                _ = product.reviews
            reviews = await session.run_sync(lambda _, one=product: [each.stars for each in one.reviews])
            assert reviews == [5, 3]


async def test_keys_that_a_driver_has_a_class_of_its_own_for(make_async, cache, sent_async):
    documents = cache.entities(Document)
    async with make_async() as session:
        session.add_all([Document(id=UUID(int=1)), Document(id=UUID(int=2), parent_id=UUID(int=1))])
        await session.commit()
    for _ in range(2):
        sent_async.clear()
        async with make_async() as session:
            child = await documents.get(session, UUID(int=2))
            assert (await documents.get(session, child.parent_id)).id == UUID(int=1)
            roots = select(Document).where(Document.id.in_([child.parent_id]))
            assert len(await documents.select(session, roots)) == 1
    assert sent_async == []


async def test_tasks_share_one_load(make_async, products, sent_async):
    async def read_async():
        async with make_async() as session:
            return await products.get(session, 1)

    found = await asyncio.gather(*(read_async() for _ in range(50)))
    assert len(sent_async) == 1
    assert len({id(each) for each in found}) == 50


async def test_a_cancelled_get_leaves_session_and_cache_as_they_were(make_async, products):
    async with make_async() as session:
        await session.connection()
        task = asyncio.create_task(products.get(session, 1))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    async with make_async() as session:
        assert (await products.get(session, 1)).version == 0


async def test_get_of_async_sessions_is_answered(async_engine, cache, products, sent_async):
    cache.watch([async_engine])
    make = async_sessionmaker(async_engine, sync_session_class=with_cached_get(Session, products))
    for _ in range(3):
        async with make() as session:
            assert (await session.get(Product, 1)).name == "product 1"
            assert await session.get(Product, 99) is None
    assert len(sent_async) == 2
    registry = async_scoped_session(make, asyncio.current_task)
    assert (await products.get(registry, 1)).name == "product 1"
    assert len(sent_async) == 2
    await registry.remove()


async def test_a_get_in_an_event_loop_does_not_wait_for_a_thread(engine, async_engine, cache, products):
    """A thread that loads may need the loop; the loop must not stand still for it."""
    cache.watch([async_engine])
    make = async_sessionmaker(async_engine, sync_session_class=with_cached_get(Session, products))
    loading, may_end, ended = threading.Event(), threading.Event(), []

    @event.listens_for(engine, "before_cursor_execute", once=True)
    def hang(*_):
        loading.set()
        ended.append(may_end.wait(5))

    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(read, engine, products)
        await asyncio.to_thread(loading.wait, 30)
        async with make() as session:
            assert (await session.get(Product, 1)).version == 0
        may_end.set()
        assert slow.result() == 0
    assert ended == [True]


def test_many_threads_that_read_and_write_never_see_less_than_was_committed(engine, products):
    """Each product's version grows; whoever reads sees at least what was acknowledged before."""
    committed = [0] * (PRODUCTS + 1)
    locks = [threading.Lock() for _ in committed]
    deadline = threading.Event()

    def write_on(seed):
        random = Random(seed)
        while not deadline.is_set():
            number = random.randint(1, PRODUCTS)
            with locks[number], Session(engine) as session:
                product = products.get(session, number) if seed % 2 else session.get(Product, number)
                product.version += 1
                session.commit()
                committed[number] = product.version

    def read_on(seed):
        random, reads = Random(seed), 0
        while not deadline.is_set():
            numbers = random.sample(range(1, PRODUCTS + 1), 3)
            floor = [committed[number] for number in numbers]
            with Session(engine) as session:
                if seed % 3 == 0:
                    found = products.get_many(session, numbers)
                elif seed % 3 == 1:
                    found = [products.get(session, number) for number in numbers]
                else:
                    by_id = {each.id: each for each in products.select(session, select(Product))}
                    found = [by_id[number] for number in numbers]
                seen = [each.version for each in found]
            assert all(one >= least for one, least in zip(seen, floor, strict=True)), (seen, floor)
            reads += 3
        return reads

    with ThreadPoolExecutor(8) as pool:
        writers = [pool.submit(write_on, seed) for seed in range(2)]
        readers = [pool.submit(read_on, seed) for seed in range(6)]
        deadline.wait(3)
        deadline.set()
        reads = sum(each.result() for each in readers)
        for each in writers:
            each.result()

    assert reads > 300
    assert sum(committed) > 20
    with Session(engine) as session:
        assert [each.version for each in session.scalars(select(Product).order_by(Product.id))] == committed[
            1:
        ]


def test_a_persistent_object_is_refreshed_as_any_other(engine, products):
    read(engine, products)
    with Session(engine) as session:
        product = products.get(session, 1)
        write(engine)
        session.refresh(product)
        assert (product.version, inspect(product).modified) == (7, False)
        session.commit()
        assert product.version == 7
