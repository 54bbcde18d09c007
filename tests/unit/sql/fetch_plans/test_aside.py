"""What a plan brought is not in the session until it is read, so nothing else meets it there."""

from __future__ import annotations

import pytest
from sqlalchemy import ForeignKey, create_engine, insert, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship, with_loader_criteria
from sqlalchemy.pool import StaticPool

from upshift.sql.fetch_plans.aside import come_in, names_of_relationships, set_aside
from upshift.sql.fetch_plans.fetch_plans import FetchPlans
from upshift.sql.loading.selectin import new_number


@pytest.fixture
def items_of(engine, plans, shop):
    """Return what executes a statement for items whose orders are learned."""
    item = shop["Item"]
    statement = select(item).order_by(item.id)

    def items_of(session, *options):
        return session.scalars(statement.options(*options)).all()

    for options in ((), (with_loader_criteria(item, item.id <= 24),)):
        with Session(engine) as session:
            assert [each.order.id for each in items_of(session, *options)]
    return items_of


def ids(objects):
    return sorted(each.id for each in objects)


def test_it_comes_in_when_it_is_read(engine, items_of, shop, statements):
    with Session(engine) as session, statements(engine) as sent:
        items = items_of(session)
        assert not any(isinstance(each, shop["Order"]) for each in session)
        order = items[0].order
        assert order in session
        assert items[24].order is order
        assert len(sent) == 2


def test_who_asks_for_it_by_its_key_gets_it_without_the_options_of_another_query(engine, items_of, shop):
    """The criteria of the query for items stay with the orders that their reads bring."""
    item, order = shop["Item"], shop["Order"]
    with Session(engine) as session:
        items = items_of(session, with_loader_criteria(item, item.id <= 24))
        key = items[0].order_id
        assert len(session.get(order, key).items) == 3
        assert items[0].order is session.get(order, key)
    with Session(engine) as session:
        items = items_of(session, with_loader_criteria(item, item.id <= 24))
        assert [each.id for each in items[0].order.items] == [items[0].id]


def test_an_old_value_that_the_session_does_not_know_stays_unknown(engine, items_of, shop):
    """It has no collection that the change of a reference could take something out of."""
    with Session(engine, autoflush=False) as session:
        items = items_of(session)
        before, now = items[0].order_id, items[1].order
        items[0].order = now
        assert items[0].id in ids(session.get(shop["Order"], before).items)


def test_what_nobody_read_is_as_new_as_the_session_when_it_is_asked_for(engine, items_of, shop):
    with Session(engine) as session:
        items = items_of(session)
        session.connection().execute(text("UPDATE orders SET note = 'changed'"))
        there = session.get(shop["Order"], items[0].order_id)
        assert there.note == "changed"
        assert items[0].order is there


def test_a_lock_is_not_older_than_what_is_read_after_it(engine, items_of, shop):
    order = shop["Order"]
    with Session(engine) as session:
        items = items_of(session)
        session.connection().execute(text("UPDATE orders SET note = 'changed'"))
        assert session.execute(select(order.id).with_for_update()).all()
        assert items[0].order.note == "changed"


def test_an_object_that_was_there_before_is_not_kept_there(engine, items_of, shop):
    with Session(engine) as session:
        known = session.get(shop["Order"], 2)
        items = items_of(session)
        del known
        assert not any(isinstance(each, shop["Order"]) for each in session)
        assert items[0].order.id == 2


@pytest.mark.parametrize("is_held", [True, False])
def test_of_a_collection_only_what_was_there_before_may_be_gone(engine, plans, shop, is_held, statements):
    order, item = shop["Order"], shop["Item"]
    statement = select(order).order_by(order.id).limit(3)

    def orders_of(session):
        return session.scalars(statement).all()

    with Session(engine) as session:
        expected = [ids(each.items) for each in orders_of(session)]
    with Session(engine) as session:
        known = session.get(item, expected[1][1])
        orders = orders_of(session)
        assert list(session.identity_map.values()) == [known, *orders]
        if not is_held:
            del known
        with statements(engine) as sent:
            assert [ids(each.items) for each in orders] == expected
        assert len(sent) == (0 if is_held else 1)
        assert not is_held or orders[1].items[1] is known


def test_what_was_modified_meanwhile_is_flushed_when_it_has_come_in(engine, shop):
    item, order = shop["Item"], shop["Order"]
    with Session(engine) as session:
        first = session.get(item, 1)
        number = new_number()
        one = session.get(order, first.order_id)
        set_aside(session, number)
        one.note = "changed"
        assert not session.dirty
        relation = item.__mapper__.relationships["order"]
        names = names_of_relationships(order.__mapper__)
        assert come_in([one], session, first._sa_instance_state, relation, names)
        assert list(session.dirty) == [one]


def test_another_object_by_the_same_name_keeps_a_value_out(engine, shop):
    item, order = shop["Item"], shop["Order"]
    with Session(engine) as session:
        first = session.get(item, 1)
        number = new_number()
        one = session.get(order, first.order_id)
        assert {each.obj() for each in set_aside(session, number)} == {one}
        other = session.get(order, first.order_id)
        assert other is not one
        relation = item.__mapper__.relationships["order"]
        asked = (session, first._sa_instance_state, relation, names_of_relationships(order.__mapper__))
        assert not come_in([one], *asked)
        assert come_in([other], *asked)


class TestAlwaysEager:
    """What an object holds by relationships that are always eager comes and goes with it."""

    @pytest.fixture
    def models(self):
        class Base(DeclarativeBase):
            pass

        class Shelf(Base):
            __tablename__ = "shelf"
            id: Mapped[int] = mapped_column(primary_key=True)

        class Book(Base):
            __tablename__ = "book"
            id: Mapped[int] = mapped_column(primary_key=True)
            shelf_id: Mapped[int] = mapped_column(ForeignKey("shelf.id"))
            shelf: Mapped[Shelf] = relationship(lazy="joined")

        class Loan(Base):
            __tablename__ = "loan"
            id: Mapped[int] = mapped_column(primary_key=True)
            book_id: Mapped[int] = mapped_column(ForeignKey("book.id"))
            book: Mapped[Book] = relationship()

        engine = create_engine("sqlite://", poolclass=StaticPool)
        Base.metadata.create_all(engine)
        with engine.begin() as connection:
            connection.execute(insert(Shelf), [{"id": n} for n in (1, 2)])
            connection.execute(insert(Book), [{"id": n, "shelf_id": n % 2 + 1} for n in range(1, 7)])
            connection.execute(insert(Loan), [{"id": n, "book_id": n} for n in range(1, 7)])
        yield engine, Shelf, Book, Loan
        engine.dispose()

    def test_it_is_found_with_what_holds_it(self, models):
        engine, shelf, book, loan = models
        plans = FetchPlans([engine])

        def loans(session):
            return session.scalars(select(loan).order_by(loan.id)).all()

        with Session(engine) as session:
            assert len({each.book.shelf for each in loans(session)}) == 2
        with Session(engine) as session:
            first = loans(session)[0]
            assert not any(isinstance(each, book | shelf) for each in session)
            assert first.book.shelf in session
        with Session(engine) as session:
            first = loans(session)[0]
            there = session.get(shelf, 2)
            assert first.book.shelf is there
        plans.close()
        assert plans.faults == 0
