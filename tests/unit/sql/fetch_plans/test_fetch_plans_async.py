"""Asynchronous sessions, where a plain lazy load raises: the attempt teaches, and the next one succeeds."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import event, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session
from sqlalchemy.orm.exc import DetachedInstanceError
from sqlalchemy.util import await_only

from upshift.sql.fetch_plans.fetch_plans import FetchPlans
from upshift.sql.loading.batching import Batching

# SQLite's driver is left with a coroutine that nobody awaits when a lazy load fails.
pytestmark = pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")


@pytest.fixture
async def engine(tmp_path, shop):
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/shop.db")
    async with engine.begin() as connection:
        await connection.run_sync(shop["fill"])
    yield engine
    await engine.dispose()


@pytest.fixture
def plans(engine):
    plans = FetchPlans([engine.sync_engine])
    yield plans
    plans.close()
    assert plans.faults == 0


@pytest.fixture
def sent(engine, statements):
    with statements(engine.sync_engine) as sent:
        yield sent


@pytest.fixture
def orders_of(shop):
    async def orders_of(session):
        order = shop["Order"]
        return (await session.scalars(select(order).order_by(order.id))).all()

    return orders_of


@pytest.fixture
def learn(engine, orders_of):
    """Have requests fail until they do not, and return how many did."""

    async def learn(read):
        for failures in range(10):
            async with AsyncSession(engine) as session:
                orders = await orders_of(session)
                try:
                    for order in orders:
                        read(order)
                except SQLAlchemyError:
                    continue
                return failures
        raise AssertionError

    return learn


def names_of(order):
    return order.customer.name, [item.product.brand.name for item in order.items]


class TestAPlainRead:
    async def test_the_attempt_teaches(self, plans, learn):
        assert await learn(lambda order: order.items) == 1

    async def test_three_levels_take_an_attempt_for_each_relationship(self, plans, learn, sent):
        assert await learn(names_of) == 4
        sent.clear()
        assert await learn(names_of) == 0
        assert len(sent) == 5

    async def test_an_object_by_its_key(self, engine, plans, shop):
        seen = []
        for _ in range(2):
            async with AsyncSession(engine) as session:
                order = await session.get(shop["Order"], 3)
                try:
                    seen.append(len(order.items))
                except SQLAlchemyError:
                    seen.append("failed")
        assert seen == ["failed", 3]

    async def test_batching_installed_before_does_not_hide_it(self, engine, learn):
        batching = Batching([engine.sync_engine])
        plans = FetchPlans([engine.sync_engine])
        assert await learn(lambda order: order.items) == 1
        plans.close()
        batching.close()

    async def test_without_it_every_attempt_fails(self, learn):
        with pytest.raises(AssertionError):
            await learn(lambda order: order.items)


class TestAfterAWrite:
    """What a lazy load cannot give anew, the fetch gives as an eager load would."""

    async def test_of_the_object(self, engine, plans, learn, orders_of):
        await learn(lambda order: order.items)
        async with AsyncSession(engine) as session:
            first, *_ = await orders_of(session)
            first.note = "changed"
            assert len(first.items) == 3

    async def test_committed(self, engine, plans, learn, orders_of):
        await learn(lambda order: order.items)
        async with AsyncSession(engine, expire_on_commit=False) as session:
            first, *_ = await orders_of(session)
            first.note = "changed"
            await session.commit()
            assert len(first.items) == 3

    async def test_where_it_can_be_loaded_it_is(self, engine, plans, shop, learn, orders_of):
        await learn(lambda order: order.items)
        async with AsyncSession(engine) as session:
            first, *_ = await orders_of(session)
            session.add(shop["Item"](id=500, tenant=0, order_id=1, product_id=1))
            await session.flush()
            assert [item.id for item in await first.awaitable_attrs.items] == [24, 48, 72, 500]

    async def test_expired_it_fails_as_ever(self, engine, plans, learn, orders_of):
        await learn(lambda order: order.items)
        async with AsyncSession(engine) as session:
            first, *_ = await orders_of(session)
            await session.commit()
            with pytest.raises(SQLAlchemyError):
                _ = first.items

    async def test_detached_it_fails_as_ever(self, engine, plans, learn, orders_of):
        await learn(lambda order: order.items)
        async with AsyncSession(engine) as session:
            first, *_ = await orders_of(session)
        with pytest.raises(DetachedInstanceError):
            _ = first.items


class TestInGreenlets:
    async def test_awaitable_attributes(self, engine, plans, orders_of, sent):
        for _ in range(2):
            sent.clear()
            async with AsyncSession(engine) as session:
                orders = await orders_of(session)
                items = [len(await order.awaitable_attrs.items) for order in orders]
        assert items == [3] * 24
        assert len(sent) == 2

    async def test_run_sync(self, engine, plans, shop, sent):
        def walk(session):
            return [names_of(order) for order in session.scalars(select(shop["Order"]))]

        seen = []
        for _ in range(2):
            sent.clear()
            async with AsyncSession(engine) as session:
                seen.append(await session.run_sync(walk))
        assert seen[0] == seen[1]
        assert len(sent) == 5

    async def test_a_stream(self, engine, plans, shop, learn, sent):
        order = shop["Order"]
        statement = select(order).order_by(order.id).execution_options(yield_per=10)
        counts = []
        for _ in range(2):
            sent.clear()
            async with AsyncSession(engine) as session:
                counts.append(
                    [
                        len(await each.awaitable_attrs.items)
                        async for each in await session.stream_scalars(statement)
                    ]
                )
        assert counts == [[3] * 24] * 2
        assert len(sent) == 1 + 3

    async def test_sessions_of_many_tasks(self, engine, plans, learn, orders_of):
        await learn(names_of)

        async def request():
            async with AsyncSession(engine) as session:
                return [names_of(order) for order in await orders_of(session)]

        first, *others = await asyncio.gather(*(request() for _ in range(8)))
        assert all(each == first for each in others)

    async def test_a_request_cancelled_in_the_middle_of_a_fetch(self, engine, plans, learn, orders_of):
        await learn(lambda order: order.items)
        reached = asyncio.Event()

        def hang(execution):
            if execution.is_relationship_load:
                reached.set()
                await_only(asyncio.Event().wait())

        async def request():
            async with AsyncSession(engine) as session:
                return await orders_of(session)

        event.listen(Session, "do_orm_execute", hang)
        task = asyncio.create_task(request())
        await reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        event.remove(Session, "do_orm_execute", hang)
        assert len(await request()) == 24
        assert await learn(lambda order: order.items) == 0
