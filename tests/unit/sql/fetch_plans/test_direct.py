"""A plan whose values are read becomes options of its statement, and loads what lazy loads give."""

from __future__ import annotations

import gc
from contextlib import closing

import pytest
from sqlalchemy import event, inspect, select, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session, with_loader_criteria
from sqlalchemy.orm.attributes import InstrumentedAttribute
from sqlalchemy.orm.exc import DetachedInstanceError

from upshift.sql.fetch_plans.fetch_plans import FetchPlans
from upshift.sql.fetch_plans.plan import OBSERVED, WAITING_TURN
from upshift.sql.uses.asked import eager_loads


@pytest.fixture
def order_class(shop):
    return shop["Order"]


@pytest.fixture
def orders_of(order_class):
    def orders_of(session):
        return session.scalars(select(order_class).order_by(order_class.id)).all()

    return orders_of


def walk(orders):
    return [(each.customer.name, [item.product.brand.name for item in each.items]) for each in orders]


@pytest.fixture
def request_once(engine, orders_of, statements):
    def request_once():
        with Session(engine) as session, statements(engine) as sent:
            return walk(orders_of(session)), len(sent)

    return request_once


@pytest.fixture
def direct(plans, request_once):
    """The plan of `orders_of`, direct."""
    for _ in range(OBSERVED + 3):
        request_once()
    return plans


class TestHowItIsLoaded:
    def test_two_statements_once_enough_was_observed(self, plans, request_once):
        lazy, _ = request_once()
        counts = []
        for _ in range(OBSERVED + 3):
            seen, count = request_once()
            counts.append(count)
            assert seen == lazy
        assert counts[:OBSERVED] == [5] * OBSERVED
        assert counts[-1] == 2

    def test_one_of_many_waits_to_see_what_is_read(self, direct, request_once):
        counts = [request_once()[1] for _ in range(2 * WAITING_TURN)]
        assert sorted(counts) == [2] * (2 * WAITING_TURN - 2) + [5, 5]

    def test_given_up_when_nothing_is_read_any_more(self, direct, engine, orders_of, statements):
        counts = []
        for _ in range(160):
            with Session(engine) as session, statements(engine) as sent:
                orders_of(session)
            counts.append(len(sent))
        assert counts[-1] == 1

    def test_a_session_that_knows_an_object_has_them_wait(self, direct, engine, shop, orders_of):
        with Session(engine) as session:
            known = session.get(shop["Customer"], 1)
            assert "customer" not in vars(orders_of(session)[0])
            assert known is not None

    def test_a_listener_that_adds_criteria_has_them_wait(self, direct, shop, request_once):
        item = shop["Item"]

        def filter_items(execution):
            if execution.is_select and not execution.is_relationship_load:
                criteria = with_loader_criteria(item, item.tenant == 0)
                execution.statement = execution.statement.options(criteria)

        event.listen(Session, "do_orm_execute", filter_items)
        try:
            seen, _ = request_once()
        finally:
            event.remove(Session, "do_orm_execute", filter_items)
        assert sum(len(items) for _, items in seen) == 36


def test_its_option_is_not_taken_for_the_applications(direct, order_class):
    plan = next(iter(direct._plans.active()))[1]
    assert eager_loads(select(order_class).options(plan.direct.option)) == ()


class TestChanges:
    @pytest.fixture
    def orders(self, direct, engine, orders_of):
        with Session(engine) as session:
            orders = orders_of(session)
            assert "items" in vars(orders[0])
            yield orders

    def test_what_is_pending_is_seen_by_a_read(self, orders, shop):
        inspect(orders[0]).session.add(shop["Item"](id=500, tenant=0, order_id=1, product_id=1))
        assert [item.id for item in orders[0].items] == [24, 48, 72, 500]

    def test_what_was_read_before_stays(self, orders, shop):
        session = inspect(orders[0]).session
        before = orders[0].items
        session.execute(shop["Item"].__table__.delete().where(shop["Item"].id.in_([1, 48])))
        assert orders[0].items is before
        assert [item.id for item in orders[1].items] == [25, 49]

    def test_a_foreign_key_that_is_set_leads_elsewhere(self, orders):
        orders[0].customer_id = 4
        assert orders[0].customer.name == "customer 4"

    def test_a_back_reference_of_an_object_the_session_does_not_know(self, orders, shop):
        item = shop["Item"](id=500, tenant=0, order=orders[0], product_id=1)
        inspect(orders[0]).session.add(item)
        assert [each.id for each in orders[0].items] == [24, 48, 72, 500]

    def test_a_partial_expiry_takes_the_reference_with_it(self, orders):
        session = inspect(orders[0]).session
        session.connection().execute(text("UPDATE orders SET customer_id = 4 WHERE id = 1"))
        session.expire(orders[0], ["customer_id"])
        assert orders[0].customer.name == "customer 4"

    def test_a_detached_object_has_what_was_read(self, orders):
        session = inspect(orders[0]).session
        assert len(orders[0].items) == 3
        session.close()
        assert len(orders[0].items) == 3
        with pytest.raises(DetachedInstanceError):
            _ = orders[1].items


class TestLifecycle:
    def test_closed_it_leaves_class_and_objects_as_they_were(self, direct, engine, shop, orders_of):
        with Session(engine) as session:
            orders = orders_of(session)
            direct.close()
            assert "items" not in vars(orders[0])
            assert type(vars(shop["Order"])["items"]) is InstrumentedAttribute

    def test_nothing_is_kept_of_a_session_that_nobody_closed(self, direct, engine, orders_of):
        session = Session(engine)
        walk(orders_of(session))
        del session
        gc.collect()
        assert not any(reads.open for reads in direct._reads.values())


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
async def test_in_an_asynchronous_session_unread_values_wait_after_a_write(tmp_path, shop):
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/shop.db")
    async with engine.begin() as connection:
        await connection.run_sync(shop["fill"])
    order = shop["Order"]

    async def orders_of(session):
        return (await session.scalars(select(order).order_by(order.id))).all()

    with closing(FetchPlans([engine.sync_engine], observed=1)) as plans:
        for _ in range(26):
            async with AsyncSession(engine) as session:
                try:
                    walk(await orders_of(session))
                except SQLAlchemyError:
                    continue
        async with AsyncSession(engine) as session:
            first, *_ = await orders_of(session)
            assert "items" in vars(first)
            first.note = "changed"
            assert "items" not in vars(first)
            assert len(first.items) == 3
        assert plans.faults == 0
    await engine.dispose()
