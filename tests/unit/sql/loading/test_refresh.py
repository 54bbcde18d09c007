"""Objects that a commit expired are refreshed together; each read sees what a refresh of its own would."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import ForeignKey, create_engine, delete, event, func, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.ext.mutable import MutableDict
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    column_property,
    immediateload,
    joinedload,
    mapped_column,
    object_session,
    query_expression,
    raiseload,
    relationship,
    selectinload,
    subqueryload,
    undefer,
    with_expression,
    with_loader_criteria,
)
from sqlalchemy.orm.exc import ObjectDeletedError
from sqlalchemy.pool import StaticPool
from sqlalchemy.types import JSON

from upshift.sql.loading.batching import Batching

ITEMS = 60


class Base(DeclarativeBase):
    pass


class Kind(Base):
    __tablename__ = "kind"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]


class Item(Base):
    __tablename__ = "item"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    price: Mapped[int] = mapped_column()
    note: Mapped[str | None] = mapped_column(deferred=True)
    kind_id: Mapped[int | None] = mapped_column(ForeignKey("kind.id"))
    kind: Mapped[Kind | None] = relationship()
    parts: Mapped[list[Part]] = relationship(order_by="Part.number")
    double: Mapped[int] = column_property(price * 2)


class Part(Base):
    __tablename__ = "part"
    item_id: Mapped[int] = mapped_column(ForeignKey("item.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    label: Mapped[str]


class Person(Base):
    __tablename__ = "person"
    id: Mapped[int] = mapped_column(primary_key=True)
    type: Mapped[str]
    name: Mapped[str]
    __mapper_args__ = {"polymorphic_on": "type", "polymorphic_identity": "person"}


class Driver(Person):
    __tablename__ = "driver"
    id: Mapped[int] = mapped_column(ForeignKey("person.id"), primary_key=True)
    licence: Mapped[str]
    __mapper_args__ = {"polymorphic_identity": "driver"}


class Priced(Base):
    __tablename__ = "priced"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    price: Mapped[int]
    total: Mapped[int | None] = query_expression()


class Document(Base):
    __tablename__ = "document"
    id: Mapped[int] = mapped_column(primary_key=True)
    data: Mapped[dict[str, int]] = mapped_column(MutableDict.as_mutable(JSON))


def fill(session: Session) -> None:
    session.add_all(Kind(id=i, title=f"kind {i}") for i in range(1, 11))
    for i in range(1, ITEMS + 1):
        parts = [Part(number=n, label=f"{i}.{n}") for n in (1, 2)]
        session.add(Item(id=i, name=f"item {i}", price=i, kind_id=i % 10 + 1, parts=parts))
    session.add_all(Driver(name=f"driver {i}", licence=f"L{i}") for i in range(ITEMS))
    session.add_all(Person(name=f"person {i}") for i in range(ITEMS))
    session.add_all(Priced(name=f"priced {i}", price=i) for i in range(ITEMS))
    session.add_all(Document(data={"number": i}) for i in range(ITEMS))
    session.commit()


@pytest.fixture
def engine():
    engine = create_engine("sqlite://", poolclass=StaticPool)
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        fill(session)
    yield engine
    engine.dispose()


def expired(session, entity=Item, *options):
    found = session.scalars(select(entity).order_by(entity.id).options(*options)).unique().all()
    session.commit()
    return found


def test_a_loop_after_a_commit_sends_few_statements(both):
    def walk(session):
        return [(item.name, item.price, item.double) for item in expired(session)]

    ran = both(walk)

    assert ran.counts == (1 + ITEMS, 1 + 3)


def test_the_next_loop_from_that_line_sends_one(both):
    ran = both(lambda session: [item.name for item in expired(session)], times=3)

    assert ran.counts == (1 + ITEMS, 1 + 1)


def test_reading_one_object_refreshes_that_one_alone(both):
    ran = both(lambda session: expired(session)[7].name)

    assert ran.counts == (2, 2)
    assert "IN (" not in ran.batched.statements[-1]


def test_relationships_of_expired_objects_are_batched_as_well(both):
    def walk(session):
        return [
            (item.name, item.kind.title, [part.label for part in item.parts]) for item in expired(session)
        ]

    ran = both(walk, times=2)

    assert ran.counts[0] > 2 * ITEMS
    assert ran.counts[1] <= 8


def test_what_is_deferred_stays_deferred(both):
    def walk(session):
        return [(item.name, item.note) for item in expired(session, Item, undefer(Item.note))]

    ran = both(walk)

    assert ran.counts == (1 + 2 * ITEMS, 1 + 3 + ITEMS)


def test_a_composite_key_finds_its_rows(both):
    def walk(session):
        parts = session.scalars(select(Part)).all()
        session.commit()
        return [(part.item_id, part.number, part.label) for part in parts]

    ran = both(walk)

    assert ran.counts == (1 + 2 * ITEMS, 1 + 4)


def test_a_subclass_is_refreshed_from_both_of_its_tables(both):
    def walk(session):
        return [(each.name, each.licence) for each in expired(session, Driver)]

    ran = both(walk)

    assert ran.counts == (1 + ITEMS, 1 + 3)


def test_classes_of_one_query_are_walked_apart(both):
    def walk(session):
        return [(type(each).__name__, each.name) for each in expired(session, Person)]

    ran = both(walk)

    assert ran.counts[1] <= 1 + 2 * 4


def test_a_statement_of_the_session_makes_waiting_rows_void(both):
    def walk(session):
        items = expired(session)
        seen = [item.name for item in items[:20]]
        session.execute(text("UPDATE item SET name = 'new'"))
        return [*seen, *(item.name for item in items[20:])]

    ran = both(walk)

    assert ran.batched.seen[20:] == ["new"] * (ITEMS - 20)


@pytest.mark.parametrize("synchronize", [False, "evaluate", "fetch"])
def test_so_does_its_bulk_update(both, synchronize):
    def walk(session):
        items = expired(session)
        seen = [item.name for item in items[:20]]
        options = {"synchronize_session": synchronize}
        session.execute(update(Item).values(name="new").where(Item.id > 30), execution_options=options)
        return [*seen, *(item.name for item in items[20:])]

    both(walk)


def test_so_does_a_flush(both):
    def walk(session):
        items = expired(session)
        seen = [item.name for item in items[:20]]
        items[0].name = "flushed"
        session.flush()
        session.execute(text("UPDATE item SET price = price + 1"))
        return [*seen, *((item.name, item.price) for item in items[20:])]

    both(walk)


def test_objects_expired_again_are_read_again(engine, batching):
    with Session(engine) as session:
        items = expired(session)
        assert [item.name for item in items[:20]] == [f"item {i}" for i in range(1, 21)]
        session.connection().exec_driver_sql("UPDATE item SET name = 'by another'")  # unknown to the session
        session.expire_all()

        assert items[25].name == "by another"


def test_an_explicit_refresh_goes_to_the_database(engine, batching):
    with Session(engine) as session:
        items = expired(session)
        assert len([item.name for item in items[:20]]) == 20
        session.connection().exec_driver_sql("UPDATE item SET name = 'by another'")
        session.refresh(items[25])

        assert items[25].name == "by another"


def test_an_object_whose_row_is_gone_raises_as_ever(engine, batching):
    with Session(engine) as session:
        items = expired(session)
        session.execute(delete(Part))
        session.execute(text("DELETE FROM item WHERE id = 30"))
        assert len([item.name for item in items[:29]]) == 29

        with pytest.raises(ObjectDeletedError):
            _ = items[29].name
        assert items[30].name == "item 31"


def test_what_was_set_on_an_expired_object_stays(both):
    def walk(session):
        items = expired(session)
        with session.no_autoflush:
            items[5].name = "changed"
            return [(item.name, item.price) for item in items]

    both(walk)


def test_classes_that_listen_to_refreshes_are_left_alone(both):
    def walk(session):
        documents = expired(session, Document)
        seen = [each.data["number"] for each in documents]
        documents[3].data["number"] = 77
        assert documents[3] in session.dirty
        return seen

    ran = both(walk)

    assert ran.counts == (1 + ITEMS, 1 + ITEMS)


@pytest.mark.parametrize("load", [selectinload, joinedload, subqueryload, immediateload])
def test_objects_that_were_loaded_with_their_relationships_are_left_alone(both, load):
    def walk(session):
        items = expired(session, Item, load(Item.parts), raiseload("*"))
        return [(item.name, [part.label for part in item.parts]) for item in items]

    ran = both(walk)

    assert ran.counts[0] == ran.counts[1]


def test_a_listener_of_the_application_hears_every_refresh(engine, batching):
    heard = []

    def hear(target, _context, _attributes):
        heard.append(target.id)

    event.listen(Kind, "refresh", hear)
    try:
        with Session(engine) as session:
            assert [kind.title for kind in expired(session, Kind)]
    finally:
        event.remove(Kind, "refresh", hear)

    assert heard == list(range(1, 11))


def test_objects_that_died_or_left_are_not_waited_for(engine, batching):
    with Session(engine) as session:
        items = expired(session)
        left = items[10]
        session.expunge(left)
        del items[20:30]

        assert [item.id for item in items if item is not left][-1] == ITEMS
        assert object_session(left) is None


def test_a_middle_page_is_refreshed_from_where_it_begins(both):
    def walk(session):
        return [item.name for item in expired(session)[40:52]]

    ran = both(walk)

    assert ran.counts == (1 + 12, 1 + 3)


def test_hooks_take_it_for_the_refresh_that_it_is(engine, batching):
    kinds = []

    def note(execution):
        kinds.append(execution.is_column_load)

    with Session(engine) as session:
        event.listen(session, "do_orm_execute", note)
        assert [item.price for item in expired(session)] == [*range(1, ITEMS + 1)]

    assert kinds[0] is False  # the query itself
    assert set(kinds[1:]) == {True}


def test_criteria_that_a_hook_adds_hide_no_row_from_a_refresh(both):
    def walk(session):
        def cheap_only(execution):
            execution.statement = execution.statement.options(with_loader_criteria(Item, Item.price < 5))

        items = expired(session)
        event.listen(session, "do_orm_execute", cheap_only)
        return [item.name for item in items]

    ran = both(walk)

    assert ran.counts == (1 + ITEMS, 1 + 3)


def test_expressions_of_a_query_can_be_loaded_afterwards(both):
    def walk(session):
        priced = expired(session, Priced)
        names = [each.name for each in priced]
        again = session.scalars(select(Priced).options(with_expression(Priced.total, Priced.price * 2)))
        return names, [each.total for each in again]

    both(walk)


def test_a_hook_that_changes_the_object_before_the_flush_leaves_it_readable(both):
    def walk(session):
        items = expired(session)
        kind = session.get(Kind, 1)
        kind.title = "dirty"

        def stamp(session, *_rest):
            items[3].price = 1_000

        event.listen(session, "before_flush", stamp, once=True)
        return items[3].name, items[3].price

    both(walk)


async def test_an_async_session_refreshes_together(tmp_path, statements):
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'items.db'}")
    batching = Batching([engine.sync_engine])
    try:
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        async with AsyncSession(engine) as session:
            await session.run_sync(fill)
            items = (await session.scalars(select(Item))).all()
            await session.commit()
            with statements(engine.sync_engine) as sent:
                names = await session.run_sync(lambda _session: [item.name for item in items])
        assert names == [f"item {i}" for i in range(1, ITEMS + 1)]
        assert len(sent) == 3
    finally:
        batching.close()
        await engine.dispose()
    assert batching.faults == 0


steps = st.lists(
    st.one_of(
        st.tuples(st.just("read"), st.integers(0, ITEMS - 1)),
        st.tuples(st.just("kind"), st.integers(0, ITEMS - 1)),
        st.tuples(st.just("set"), st.integers(0, ITEMS - 1)),
        st.tuples(st.just("expire"), st.integers(0, ITEMS - 1)),
        st.tuples(st.just("refresh"), st.integers(0, ITEMS - 1)),
        st.tuples(st.just("update"), st.integers(1, 50)),
        st.tuples(st.sampled_from(["flush", "commit", "rollback", "count"]), st.just(0)),
    ),
    max_size=40,
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=steps, autoflush=st.booleans())
def test_whatever_a_session_does_it_sees_what_it_would_see_lazily(both, steps, autoflush):
    def walk(session):
        items = expired(session)
        seen = [item.name for item in items[:10]]
        for what, number in steps:
            match what:
                case "read":
                    seen.append((items[number].name, items[number].price))
                case "kind":
                    seen.append(items[number].kind.title)
                case "set":
                    items[number].price = 1_000 + len(seen)
                case "expire":
                    session.expire(items[number])
                case "refresh":
                    session.refresh(items[number])
                case "update":
                    session.execute(
                        text("UPDATE item SET name = name || '!' WHERE id % :n = 0"), {"n": number}
                    )
                case "count":
                    seen.append(session.scalar(select(func.sum(Item.price))))
                case _:
                    getattr(session, what)()
        seen += [(item.name, item.price) for item in items]
        session.rollback()
        with session.begin():
            session.execute(text("UPDATE item SET name = 'item ' || id, price = id"))
        return seen

    both(walk, autoflush=autoflush)
