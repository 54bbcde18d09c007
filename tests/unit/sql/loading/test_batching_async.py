"""Asynchronous sessions: `awaitable_attrs`, `run_sync`, and tasks that read from one session at once."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import ForeignKey, event, insert, select
from sqlalchemy.ext.asyncio import AsyncAttrs, AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from upshift.sql.loading.batching import Batching

ORDERS = 24


class Base(AsyncAttrs, DeclarativeBase):
    pass


class Customer(Base):
    __tablename__ = "customer"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    customer_id: Mapped[int] = mapped_column(ForeignKey("customer.id"))
    customer: Mapped[Customer] = relationship()
    items: Mapped[list[Item]] = relationship(order_by="Item.id", back_populates="order")


class Item(Base):
    __tablename__ = "item"
    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id"))
    order: Mapped[Order] = relationship(back_populates="items")


@pytest.fixture
async def engine(tmp_path):
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/shop.db")
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    async with AsyncSession(engine) as session:
        session.add_all(Customer(id=n, name=f"customer {n}") for n in range(1, 6))
        await session.flush()
        session.add_all(Order(id=n, customer_id=n % 5 + 1) for n in range(1, ORDERS + 1))
        await session.flush()
        session.add_all(Item(id=n, order_id=n % ORDERS + 1) for n in range(1, 3 * ORDERS + 1))
        await session.commit()
    yield engine
    await engine.dispose()


@pytest.fixture
def batching(engine):
    batching = Batching([engine.sync_engine])
    yield batching
    batching.close()
    assert batching.faults == 0


@pytest.fixture
def sent(engine, statements):
    with statements(engine.sync_engine) as sent:
        yield sent


async def orders_of(session):
    return (await session.scalars(select(Order).order_by(Order.id))).all()


EXPECTED_ITEMS = [[n - 1, n - 1 + ORDERS, n - 1 + 2 * ORDERS] for n in range(2, ORDERS + 1)]
EXPECTED_ITEMS.insert(0, [ORDERS, 2 * ORDERS, 3 * ORDERS])


async def test_awaitable_attributes(engine, batching, sent):
    async with AsyncSession(engine) as session:
        orders = await orders_of(session)
        items = [[item.id for item in await order.awaitable_attrs.items] for order in orders]
        names = [(await order.awaitable_attrs.customer).name for order in orders]
    assert items == EXPECTED_ITEMS
    assert names == [f"customer {n % 5 + 1}" for n in range(1, ORDERS + 1)]
    assert len(sent) == 1 + 3 + 2


async def test_run_sync(engine, batching, sent):
    def walk(session):
        return [
            [item.id for item in order.items] for order in session.scalars(select(Order).order_by(Order.id))
        ]

    async with AsyncSession(engine) as session:
        assert await session.run_sync(walk) == EXPECTED_ITEMS
    async with AsyncSession(engine) as session:
        sent.clear()
        assert await session.run_sync(walk) == EXPECTED_ITEMS
    assert len(sent) == 2


class TestTasks:
    async def test_collections_read_at_once(self, engine, batching, sent):
        async with AsyncSession(engine) as session:
            orders = await orders_of(session)
            collections = await asyncio.gather(*(order.awaitable_attrs.items for order in orders))
            assert [[item.id for item in items] for items in collections] == EXPECTED_ITEMS
        assert len(sent) == 4

    async def test_many_to_one_read_at_once(self, engine, batching, sent):
        """Every task found its customer missing before the first had it: none may load it again."""
        async with AsyncSession(engine) as session:
            orders = await orders_of(session)
            customers = await asyncio.gather(*(order.awaitable_attrs.customer for order in orders))
            assert [customer.id for customer in customers] == [n % 5 + 1 for n in range(1, ORDERS + 1)]
            assert len(set(map(id, customers))) == 5
        assert len(sent) == 3

    async def test_rows_that_are_not_there_read_at_once(self, engine, batching, sent):
        async with engine.begin() as connection:
            await connection.execute(Customer.__table__.delete())
        async with AsyncSession(engine) as session:
            sent.clear()
            orders = await orders_of(session)
            assert set(await asyncio.gather(*(order.awaitable_attrs.customer for order in orders))) == {None}
        assert len(sent) == 3

    async def test_different_relationships_read_at_once(self, engine, batching, sent):
        async with AsyncSession(engine) as session:
            orders = await orders_of(session)

            async def read(order):
                items, customer = await asyncio.gather(
                    order.awaitable_attrs.items, order.awaitable_attrs.customer
                )
                return [item.id for item in items], customer.id

            seen = await asyncio.gather(*map(read, orders))
            assert [items for items, _ in seen] == EXPECTED_ITEMS
            assert [customer for _, customer in seen] == [n % 5 + 1 for n in range(1, ORDERS + 1)]
        assert len(sent) == 6

    async def test_one_attribute_read_by_many(self, engine, batching):
        async with AsyncSession(engine) as session:
            order = (await orders_of(session))[3]
            seen = await asyncio.gather(*(order.awaitable_attrs.items for _ in range(5)))
            assert [[item.id for item in items] for items in seen] == [EXPECTED_ITEMS[3]] * 5

    async def test_a_task_cancelled_in_the_middle_of_a_load(self, engine, batching):
        async with AsyncSession(engine) as session:
            orders = await orders_of(session)
            reached, go_on = asyncio.Event(), asyncio.Event()

            def wait(_execution):
                from sqlalchemy.util import await_only

                reached.set()
                await_only(go_on.wait())

            await orders[0].awaitable_attrs.items
            event.listen(session.sync_session, "do_orm_execute", wait)
            first, *others = [asyncio.create_task(fetch(order)) for order in orders[1:5]]
            await reached.wait()
            first.cancel()
            with pytest.raises(asyncio.CancelledError):
                await first
            go_on.set()
            async with asyncio.timeout(10):
                seen = await asyncio.gather(*others)
            assert seen == EXPECTED_ITEMS[2:5]

    async def test_a_task_cancelled_while_it_waits_for_its_turn(self, engine, batching):
        async with AsyncSession(engine) as session:
            orders = await orders_of(session)
            tasks = [asyncio.create_task(fetch(order)) for order in orders]
            await asyncio.sleep(0)
            tasks[2].cancel()
            tasks[5].cancel()
            async with asyncio.timeout(10):
                seen = await asyncio.gather(*tasks, return_exceptions=True)
            for number, (items, expected) in enumerate(zip(seen, EXPECTED_ITEMS, strict=True)):
                assert items == expected or (number in {2, 5} and isinstance(items, asyncio.CancelledError))

    async def test_the_session_is_of_use_after_all_were_cancelled(self, engine, batching):
        async with AsyncSession(engine) as session:
            orders = await orders_of(session)
            tasks = [asyncio.create_task(fetch(order)) for order in orders]
            await asyncio.sleep(0)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await session.rollback()
            async with asyncio.timeout(10):
                orders = await orders_of(session)
                assert [await fetch(order) for order in orders] == EXPECTED_ITEMS

    async def test_a_load_within_a_load_keeps_its_turn(self, engine, batching):
        seen = []

        def read_customer(item, _context):
            seen.append(item.order.customer.name)

        event.listen(Item, "load", read_customer, restore_load_context=True)
        try:
            async with AsyncSession(engine) as session:
                orders = await orders_of(session)
                async with asyncio.timeout(10):
                    assert [await fetch(order) for order in orders] == EXPECTED_ITEMS
        finally:
            event.remove(Item, "load", read_customer)
        assert len(seen) == 3 * ORDERS

    async def test_tasks_with_sessions_of_their_own(self, engine, batching):
        async def walk():
            async with AsyncSession(engine) as session:
                return [await fetch(order) for order in await orders_of(session)]

        async with asyncio.timeout(20):
            assert await asyncio.gather(*(walk() for _ in range(5))) == [EXPECTED_ITEMS] * 5

    async def test_a_write_by_one_task_reaches_the_reads_of_others(self, engine, batching):
        async with AsyncSession(engine) as session:
            orders = await orders_of(session)
            for order in orders[:2]:
                await order.awaitable_attrs.items
            await session.execute(insert(Item).values(id=1000, order_id=5))
            assert await fetch(orders[4]) == [*EXPECTED_ITEMS[4], 1000]

    async def test_an_event_loop_of_its_own_each_time(self, engine, batching):
        """The turn belongs to the loop it was taken in, a session may see several."""
        async with AsyncSession(engine) as session:
            orders = await orders_of(session)
            await asyncio.gather(*(order.awaitable_attrs.items for order in orders))
            await session.rollback()
            orders = await orders_of(session)
            assert [await fetch(order) for order in orders] == EXPECTED_ITEMS


async def fetch(order):
    return [item.id for item in await order.awaitable_attrs.items]
