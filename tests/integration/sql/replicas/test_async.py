"""Routing in async sessions, by both async drivers: lazy attributes, streams, refreshes, reruns."""

from __future__ import annotations

import asyncio

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import async_sessionmaker

from .conftest import Cluster, Item, NewReplicas, Tag, dispose

IS_REPLICA = sa.select(sa.func.pg_is_in_recovery())


@pytest.fixture(params=["psycopg", "asyncpg"])
async def replicas(request, cluster: Cluster, new_replicas: NewReplicas):
    cluster.caught_up()
    replicas = await asyncio.to_thread(
        new_replicas, cluster.primary, cluster.near, driver=request.param, is_async=True
    )
    yield replicas
    await dispose(replicas)


@pytest.fixture
def new_session(replicas):
    return async_sessionmaker(sync_session_class=replicas.session_class)


async def test_reads_go_to_a_replica_and_writes_to_the_primary(new_session):
    async with new_session() as session:
        assert await session.scalar(IS_REPLICA)
        item = await session.get(Item, 21)
        item.name = "changed"
        await session.commit()
        assert not await session.scalar(IS_REPLICA)
        await session.refresh(item)
        assert item.name == "changed"


async def test_lazy_loads_are_where_their_transaction_is(cluster, new_session):
    with cluster.paused(cluster.near):
        async with new_session() as session:
            item = await session.get(Item, 22)
            session.add(Tag(item_id=22, name="added"))
            await session.flush()
            tags = await session.run_sync(lambda _: [tag.name for tag in item.tags])
            assert tags == ["tag 22", "added"]
            await session.rollback()


async def test_rows_are_streamed_from_a_replica(new_session):
    async with new_session() as session:
        result = await session.stream(sa.select(Item.id).where(Item.id <= 50).execution_options(yield_per=7))
        assert len([row async for row in result]) == 50
        assert session.sync_session._route.replica is not None


async def test_a_read_that_writes_after_all_is_run_on_the_primary(new_session):
    async with new_session() as session:
        numbers = await session.execute(sa.select(sa.text("number")).select_from(sa.table("numbered")))
        assert numbers.scalar_one() > 0
        assert not await session.scalar(IS_REPLICA)


async def test_sessions_side_by_side_are_routed_apart(new_session):
    async def read():
        async with new_session() as session:
            return await session.scalar(IS_REPLICA)

    async def write(number):
        async with new_session() as session:
            session.add(Tag(item_id=1, name=f"side by side {number}"))
            await session.commit()
            return await session.scalar(IS_REPLICA)

    seen = await asyncio.gather(*(read() if number % 2 else write(number) for number in range(20)))
    assert seen == [bool(number % 2) for number in range(20)]


async def test_a_block_for_the_primary_holds_for_its_task_only(replicas, new_session):
    inside, outside = asyncio.Event(), asyncio.Event()

    async def on_primary():
        with replicas.primary():
            inside.set()
            await outside.wait()
            async with new_session() as session:
                return await session.scalar(IS_REPLICA)

    task = asyncio.create_task(on_primary())
    await inside.wait()
    async with new_session() as session:
        assert await session.scalar(IS_REPLICA)
    outside.set()
    assert not await task
