"""What is read of a statement's objects is fetched with them the next time, and no value is another."""

from __future__ import annotations

import gc
import pickle
import sys
import threading
import weakref
from contextlib import closing
from contextvars import ContextVar

import pytest
from sqlalchemy import create_engine, event, insert, inspect, select, text
from sqlalchemy.exc import InvalidRequestError, OperationalError
from sqlalchemy.orm import Session, aliased, joinedload, raiseload, selectinload, with_loader_criteria
from sqlalchemy.pool import StaticPool

from upshift.record import Record
from upshift.sql.fetch_plans import fetch_plans, fetching
from upshift.sql.fetch_plans.fetch_plans import NO_REQUEST, FetchPlans
from upshift.sql.fetch_plans.plan import TRIAL
from upshift.sql.fetch_plans.waiting import Waiting
from upshift.sql.loading import installing
from upshift.sql.loading.batching import Batching
from upshift.sql.loading.installing import UncoveredSQLAlchemyWarning


@pytest.fixture
def order_class(shop):
    return shop["Order"]


@pytest.fixture
def three_levels(engine, shop, statements):
    """Read three levels of relationships, and return what was seen and how many statements it took."""
    order = shop["Order"]

    def walk(statement=None, bind=engine, **session_arguments):
        with Session(bind, **session_arguments) as session, statements(bind) as sent:
            found = session.scalars(select(order).order_by(order.id) if statement is None else statement)
            seen = [
                (each.id, each.customer.name, [(item.id, item.product.brand.name) for item in each.items])
                for each in found.unique()
            ]
            return seen, len(sent)

    return walk


class TestLearning:
    def test_the_second_request_sends_a_statement_for_each_relationship(self, plans, three_levels):
        lazy, first = three_levels()
        seen, second = three_levels()
        assert seen == lazy
        assert (first, second) == (1 + 5 + 24 + 10 + 3, 5)

    def test_what_was_learned_is_told(self, plans, three_levels):
        three_levels()
        (plan,) = plans.learned()
        assert plan.operation == NO_REQUEST
        assert (plan.root, plan.site.function) == ("Order", "three_levels.<locals>.walk")
        assert set(plan.options) == {
            "selectinload(Order.customer)",
            "selectinload(Order.items).selectinload(Item.product).selectinload(Product.brand)",
        }
        three_levels()
        (plan,) = plans.learned()
        told = {each.path: (each.fetched, each.used) for each in plan.loads}
        assert told["Order.items"] == (24, 24)
        assert told["Order.items.product.brand"] == (10, 10)

    def test_one_object_of_a_thousand_stays_lazy(self, engine, plans, order_class, statements):
        with engine.begin() as connection:
            connection.execute(insert(order_class), [{"id": n, "customer_id": 1} for n in range(100, 1_100)])
        for _ in range(3):
            with Session(engine) as session, statements(engine) as sent:
                orders = session.scalars(select(order_class).order_by(order_class.id)).all()
                assert [len(each.items) for each in orders[:2]] == [3, 3]
            assert len(sent) == 3
        assert plans.learned() == ()

    def test_an_object_by_its_key(self, engine, plans, order_class, statements):
        counts = []
        for _ in range(2):
            with Session(engine) as session, statements(engine) as sent:
                order = session.get(order_class, 3)
                assert [item.product.id for item in order.items] == [3, 7, 1]
            counts.append(len(sent))
        assert counts == [5, 3]

    def test_a_legacy_query(self, engine, plans, order_class, statements):
        counts = []
        for _ in range(2):
            with Session(engine) as session, statements(engine) as sent:
                assert sum(len(order.items) for order in session.query(order_class)) == 72
            counts.append(len(sent))
        assert counts == [25, 2]

    def test_routes_learn_apart(self, engine, order_class, statements):
        current: ContextVar[Record | None] = ContextVar("current", default=None)
        with closing(FetchPlans([engine], None, current, lambda record: record.path)) as plans:

            def request(path, read):
                current.set(Record("GET", path, 0.0))
                with Session(engine) as session, statements(engine) as sent:
                    for order in session.scalars(select(order_class)):
                        read(order)
                return len(sent)

            for _ in range(2):
                items = request("/items", lambda order: order.items)
                neither = request("/neither", lambda order: order.id)
            assert (items, neither) == (2, 1)
            assert [plan.operation for plan in plans.learned()] == ["GET /items"]

    def test_below_what_an_option_loads_already(self, engine, plans, order_class, statements):
        statement = select(order_class).options(selectinload(order_class.items))
        counts = []
        for _ in range(2):
            with Session(engine) as session, statements(engine) as sent:
                for order in session.scalars(statement):
                    assert all(item.product.tenant in {0, 1} for item in order.items)
            counts.append(len(sent))
        assert counts == [12, 3]
        (plan,) = plans.learned()
        assert plan.options == ("defaultload(Order.items).selectinload(Item.product)",)


class TestCost:
    @pytest.mark.parametrize(("columns", "most"), [("Order", 20), ("Brand", 8), ("column", 8)])
    def test_a_statement_that_no_plan_serves_takes_few_calls(self, engine, plans, shop, columns, most):
        statement = select(shop["Order"].id) if columns == "column" else select(shop[columns])
        calls: list[str] = []
        depth = 0

        def count(frame, happening, _argument):
            nonlocal depth
            if happening == "call" and (depth or frame.f_code is FetchPlans._on_execute.__code__):
                depth += 1
                calls.append(frame.f_code.co_qualname)
            elif happening == "return" and depth:
                depth -= 1

        with Session(engine) as session:
            session.execute(statement).all()
            sys.setprofile(count)
            try:
                result = session.execute(statement)
            finally:
                sys.setprofile(None)
            result.all()
        assert 0 < len(calls) <= most, calls


class TestUnlearning:
    def test_given_up_when_the_application_stops_to_read(self, engine, plans, order_class, statements):
        def request(*, reads):
            with Session(engine) as session, statements(engine) as sent:
                orders = session.scalars(select(order_class)).all()
                if reads:
                    assert sum(len(order.items) for order in orders) == 72
            return len(sent)

        request(reads=True)
        counts = [request(reads=False) for _ in range(TRIAL + 2)]
        assert counts == [2] * TRIAL + [1, 1]
        assert plans.learned() == ()
        assert [request(reads=True) for _ in range(3)] == [25, 25, 2]  # twice the evidence


class TestOptions:
    def test_a_relationship_that_must_not_be_read_still_must_not(
        self, engine, plans, order_class, statements
    ):
        """The plan is of another statement, whose place is the same."""

        def read(option):
            with Session(engine) as session, statements(engine) as sent:
                return [
                    len(order.items) for order in session.scalars(select(order_class).options(option))
                ], len(sent)

        for _ in range(2):
            _, count = read(joinedload(order_class.customer))
        assert count == 2
        with pytest.raises(InvalidRequestError):
            read(raiseload(order_class.items))

    def test_criteria_filter_what_is_fetched(self, plans, shop, three_levels):
        item, order = shop["Item"], shop["Order"]
        statement = select(order).order_by(order.id).options(with_loader_criteria(item, item.tenant == 0))
        lazy, _ = three_levels(statement)
        seen, count = three_levels(statement)
        assert seen == lazy
        assert sum(len(items) for *_, items in seen) == 36
        assert count == 5

    def test_criteria_that_a_listener_adds_filter_too(self, engine, plans, shop, three_levels):
        item = shop["Item"]

        def filter_items(execution):
            if execution.is_select and not execution.is_column_load and not execution.is_relationship_load:
                execution.statement = execution.statement.options(
                    with_loader_criteria(item, item.tenant == 0)
                )

        event.listen(Session, "do_orm_execute", filter_items)
        try:
            lazy, _ = three_levels()
            seen, count = three_levels()
        finally:
            event.remove(Session, "do_orm_execute", filter_items)
        assert seen == lazy
        assert sum(len(items) for *_, items in seen) == 36
        assert count == 5

    @pytest.mark.parametrize("size", [1, 7, 100])
    def test_a_stream_is_fetched_for_chunk_by_chunk(self, plans, engine, order_class, statements, size):
        def read():
            statement = select(order_class).execution_options(yield_per=size)
            with Session(engine) as session, statements(engine) as sent:
                return [len(order.items) for order in session.scalars(statement)], len(sent)

        lazy, _ = read()
        assert read() == (lazy, 1 + -(-24 // size))

    def test_an_alias(self, plans, three_levels, order_class):
        other = aliased(order_class)
        lazy, _ = three_levels(select(other).order_by(other.id))
        assert three_levels(select(other).order_by(other.id)) == (lazy, 5)

    def test_rows_with_more_than_the_object(self, engine, plans, order_class, statements):
        def read():
            with Session(engine) as session, statements(engine) as sent:
                rows = session.execute(
                    select(order_class.id, order_class, order_class.note).order_by(order_class.id)
                ).all()
                return [(number, len(order.items)) for number, order, _ in rows], len(sent)

        lazy, _ = read()
        assert read() == (lazy, 2)


class TestWrites:
    @pytest.fixture
    def orders(self, engine, plans, order_class):
        def read(session):
            return session.scalars(select(order_class).order_by(order_class.id)).all()

        with Session(engine) as session:
            assert sum(len(order.items) for order in read(session)) == 72
        with Session(engine) as session:
            yield read(session)

    def test_a_flush_in_between_is_seen(self, orders, shop):
        session = inspect(orders[0]).session
        session.add(shop["Item"](id=500, tenant=0, order_id=1, product_id=1))
        assert [item.id for item in orders[0].items] == [24, 48, 72, 500]

    def test_a_delete_in_between_is_seen(self, orders, shop):
        session = inspect(orders[0]).session
        session.delete(session.get(shop["Item"], 48))
        assert [item.id for item in orders[0].items] == [24, 72]

    def test_a_statement_that_writes_is_seen(self, orders, shop):
        session = inspect(orders[0]).session
        session.execute(shop["Item"].__table__.delete().where(shop["Item"].id == 48))
        assert [item.id for item in orders[0].items] == [24, 72]

    def test_a_rollback_throws_away(self, orders, engine):
        session = inspect(orders[0]).session
        session.rollback()
        with engine.begin() as connection:
            connection.execute(text("DELETE FROM item WHERE id = 48"))
        assert [item.id for item in orders[0].items] == [24, 72]

    def test_an_expired_attribute_is_loaded_anew(self, orders, shop):
        session = inspect(orders[0]).session
        session.connection().execute(text("DELETE FROM item WHERE id = 48"))
        session.expire(orders[0], ["items"])
        assert [item.id for item in orders[0].items] == [24, 72]

    @pytest.mark.parametrize("again", [Session.expire, Session.refresh])
    def test_a_foreign_key_that_is_loaded_anew_leads_elsewhere(self, engine, plans, order_class, again):
        def read(session):
            return session.scalars(select(order_class).order_by(order_class.id)).all()

        with Session(engine) as session:
            assert all(order.customer for order in read(session))
        with Session(engine) as session:
            first, *_ = read(session)
            assert (first.customer_id, bool(inspect(first).callables)) == (2, True)  # its customer waits
            session.connection().execute(text("UPDATE orders SET customer_id = 4 WHERE id = 1"))
            again(session, first, ["customer_id"])
            assert first.customer.name == "customer 4"

    def test_a_collection_that_was_set_stays(self, orders):
        orders[0].items = []
        assert orders[0].items == []

    def test_a_pickled_object_carries_nothing(self, orders):
        assert "items" not in pickle.loads(pickle.dumps(inspect(orders[0]).__getstate__())).get(
            "callables", {}
        )


class TestFaults:
    def test_the_databases_answer_is_the_applications(self, engine, plans, order_class):
        def read():
            with Session(engine) as session:
                return [len(order.items) for order in session.scalars(select(order_class))]

        read()
        with engine.begin() as connection:
            connection.execute(text("ALTER TABLE item RENAME TO gone"))
        with pytest.raises(OperationalError, match="no such table"):
            read()
        assert plans.faults == 0

    def test_the_part_that_failed_is_given_up(self, engine, plans, order_class):
        def read(*, items):
            with Session(engine) as session:
                orders = session.scalars(select(order_class)).all()
                return [len(order.items) for order in orders] if items else len(orders)

        read(items=True)
        with engine.begin() as connection:
            connection.execute(text("ALTER TABLE item RENAME TO gone"))
        with pytest.raises(OperationalError):
            read(items=False)
        assert read(items=False) == 24

    def test_a_fault_of_ours_leaves_the_read_lazy(
        self, engine, order_class, three_levels, monkeypatch, caplog
    ):
        with closing(FetchPlans([engine])) as plans:
            lazy, first = three_levels()
            monkeypatch.setattr(fetching, "load_related", lambda *_args, **_options: 1 / 0)
            seen, count = three_levels()
            assert seen == lazy
            assert count == first
            assert plans.faults == 2  # customers and items; what is below them was not tried
            assert len(caplog.records) == 1

    def test_a_fault_while_learning_leaves_the_statement_alone(
        self, engine, three_levels, monkeypatch, caplog
    ):
        with closing(FetchPlans([engine])) as plans:
            monkeypatch.setattr(fetch_plans, "origin", lambda *_: 1 / 0)
            assert three_levels()[1] == 43
            assert plans.faults
            assert len(caplog.records) == 1

    def test_off_on_a_version_that_is_not_covered(self, engine, monkeypatch):
        monkeypatch.setattr(installing, "is_covered", lambda: False)
        with pytest.warns(UncoveredSQLAlchemyWarning):
            plans = FetchPlans([engine])
        assert not plans.active
        plans.close()


class TestLifecycle:
    def test_closed_it_fetches_nothing(self, engine, three_levels):
        plans = FetchPlans([engine])
        lazy, first = three_levels()
        plans.close()
        plans.close()
        assert three_levels() == (lazy, first)

    def test_what_waits_is_taken_out_again(self, engine, order_class):
        plans = FetchPlans([engine])
        for _ in range(2):
            session = Session(engine)
            orders = session.scalars(select(order_class)).all()
            if not plans.learned():
                assert [len(order.items) for order in orders]
                session.close()
        assert inspect(orders[0]).callables
        plans.close()
        assert not inspect(orders[0]).callables
        session.close()

    def test_two_of_them_serve_their_own_engines(self, engine, shop, three_levels):
        other = create_engine("sqlite://", poolclass=StaticPool)
        with other.begin() as connection:
            shop["fill"](connection)
        with closing(FetchPlans([engine])) as first, closing(FetchPlans([other])) as second:
            for _ in range(2):
                _, count = three_levels()
            assert count == 5
            assert (len(first.learned()), second.learned()) == (1, ())
            assert three_levels(bind=other)[1] == 43
        other.dispose()

    def test_beside_batching(self, engine, three_levels):
        with closing(Batching([engine])) as batching, closing(FetchPlans([engine])) as plans:
            lazy, first = three_levels()
            for _ in range(3):
                seen, count = three_levels()
            assert seen == lazy
            assert count <= 5 < first < 20
            assert batching.faults == plans.faults == 0

    def test_a_session_and_its_objects_are_collected(self, engine, plans, order_class):
        def read():
            session = Session(engine)
            orders = session.scalars(select(order_class)).all()
            assert [len(order.items) for order in orders[:12]]
            return [weakref.ref(each) for each in (session, orders[20])]

        for _ in range(2):
            gone = read()
            gc.collect()
            gc.collect()
            assert [each() for each in gone] == [None, None]
        assert not [each for each in gc.get_objects() if isinstance(each, Waiting)]

    def test_sessions_in_threads(self, tmp_path, shop):
        engine = create_engine(f"sqlite:///{tmp_path}/shop.db")
        with engine.begin() as connection:
            shop["fill"](connection)
        failures = []

        def read():
            with Session(engine) as session:
                orders = session.scalars(select(shop["Order"])).all()
                return [[item.product.brand.name for item in order.items] for order in orders]

        expected = read()

        def work():
            try:
                for _ in range(5):
                    assert read() == expected
            except BaseException as error:  # noqa: BLE001 - told by the main thread
                failures.append(error)

        with closing(FetchPlans([engine])) as plans:
            threads = [threading.Thread(target=work) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert plans.faults == 0
        engine.dispose()
        assert failures == []
