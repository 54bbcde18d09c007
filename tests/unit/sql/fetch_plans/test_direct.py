"""A plan whose values are read becomes options of its statement, and loads what lazy loads give."""

from __future__ import annotations

import gc
from contextlib import closing

import pytest
from sqlalchemy import ForeignKey, create_engine, event, insert, inspect, select, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship, with_loader_criteria
from sqlalchemy.orm.attributes import InstrumentedAttribute
from sqlalchemy.orm.exc import DetachedInstanceError
from sqlalchemy.pool import StaticPool

from upshift.sql.fetch_plans.direct import direct_of
from upshift.sql.fetch_plans.fetch_plans import FetchPlans
from upshift.sql.fetch_plans.plan import OBSERVED, WAITING_TURN, Plan
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


class Base(DeclarativeBase):
    pass


class Whole(Base):
    __tablename__ = "whole"
    id: Mapped[int] = mapped_column(primary_key=True)
    parts: Mapped[list[Part]] = relationship(
        back_populates="whole", cascade="all, delete-orphan", passive_deletes=True
    )


class Part(Base):
    __tablename__ = "part"
    id: Mapped[int] = mapped_column(primary_key=True)
    whole_id: Mapped[int] = mapped_column(ForeignKey("whole.id", ondelete="cascade"))
    whole: Mapped[Whole] = relationship(back_populates="parts")


class Rung(Base):
    """Its neighbours are always eager, so each holds all others."""

    __tablename__ = "rung"
    id: Mapped[int] = mapped_column(primary_key=True)
    whole_id: Mapped[int] = mapped_column(ForeignKey("whole.id"))
    above_id: Mapped[int | None] = mapped_column(ForeignKey("rung.id"))
    whole: Mapped[Whole] = relationship()
    above: Mapped[Rung | None] = relationship(remote_side=[id], lazy="selectin")


class TestWhatIsFoundInTheSession:
    """Unread objects of a direct plan are in the session, so it ends before anything can tell."""

    @pytest.fixture
    def learned(self):
        """Return what executes a statement for a class, whose relationship is loaded directly then."""
        engine = create_engine("sqlite://", poolclass=StaticPool)
        Base.metadata.create_all(engine)
        with engine.begin() as connection:
            connection.execute(insert(Whole), [{"id": n} for n in range(1, 5)])
            connection.execute(insert(Part), [{"id": n, "whole_id": n} for n in range(1, 5)])
        with closing(FetchPlans([engine], observed=1)) as plans:

            def learned(kind, key):
                def find(session):
                    return session.scalars(select(kind).order_by(kind.id)).all()

                for _ in range(4):
                    with Session(engine) as session:
                        assert all(getattr(each, key) for each in find(session))
                with Session(engine) as session:
                    assert key in vars(find(session)[0])
                return find

            yield learned, engine
            assert plans.faults == 0
        engine.dispose()

    @pytest.fixture
    def wholes(self, learned):
        learn, engine = learned
        find = learn(Whole, "parts")
        with Session(engine) as session:
            yield session, find(session)

    def test_who_is_expunged_takes_nothing_along_that_was_not_read(self, wholes):
        session, found = wholes
        part = session.get(Part, 1)
        session.expunge(found[0])
        assert part in session
        with pytest.raises(DetachedInstanceError):
            _ = found[0].parts

    def test_who_is_expired_takes_nothing_along_that_was_not_read(self, wholes):
        session, found = wholes
        part = session.get(Part, 1)
        session.expire(found[0])
        assert not inspect(part).expired

    def test_who_is_deleted_takes_nothing_along_that_the_database_deletes(self, wholes):
        session, found = wholes
        part = session.get(Part, 1)
        session.delete(found[0])
        assert part not in session.deleted

    def test_an_old_value_that_was_not_read_stays_unknown(self, learned):
        """A whole that the session does not know has no collection that the part could leave."""
        learn, engine = learned
        find = learn(Part, "whole")
        with Session(engine, autoflush=False) as session:
            part = find(session)[0]
            part.whole = Whole(id=9)
            assert session.get(Whole, 1).parts == [part]

    def test_neither_is_it_found_by_who_is_put_into_another_collection(self, learned):
        learn, engine = learned
        find = learn(Part, "whole")
        with Session(engine, autoflush=False) as session:
            part = find(session)[0]
            Whole(id=9).parts.append(part)
            assert session.get(Whole, 1).parts == [part]

    def test_loader_options_in_the_session_have_them_wait(self, learned):
        learn, engine = learned
        find = learn(Whole, "parts")
        with Session(engine) as session:
            rung = Rung(id=1, whole_id=1)
            session.add(rung)
            session.flush()
            session.expire(rung)
            criteria = with_loader_criteria(Part, Part.id == 7)
            known = session.scalars(
                select(Rung).options(criteria).execution_options(populate_existing=True)
            ).all()
            assert "parts" not in vars(find(session)[0])
            assert known[0].whole.parts == []

    def test_classes_that_are_eager_in_rings_have_them_wait(self):
        plan = Plan()
        node = plan.node((Rung.__mapper__.relationships["whole"],))
        node.is_worthy = node.is_wanted = True
        assert direct_of(Rung.__mapper__, plan) is None
