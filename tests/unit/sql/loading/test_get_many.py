"""`get_many` returns what a loop of `session.get` returns, in a few statements."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import ForeignKey, create_engine, delete, select, text
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.ext.asyncio import (
    AsyncSession,
    async_scoped_session,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    joinedload,
    mapped_column,
    relationship,
    scoped_session,
    sessionmaker,
)
from sqlalchemy.pool import StaticPool

from upshift.sql import get_many

CITIES = 1_200


class Base(DeclarativeBase):
    pass


class City(Base):
    __tablename__ = "city"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    name: Mapped[str]
    streets: Mapped[list[Street]] = relationship(back_populates="city")
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "city"}


class Capital(City):
    __mapper_args__ = {"polymorphic_identity": "capital"}


class Street(Base):
    __tablename__ = "street"
    city_id: Mapped[int] = mapped_column(ForeignKey("city.id"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    city: Mapped[City] = relationship(back_populates="streets")


def fill(session):
    session.add_all(City(id=i, name=f"city {i}") for i in range(1, CITIES + 1))
    session.add(Capital(id=5_000, name="capital"))
    session.add_all(Street(city_id=i, name=name) for i in (1, 2) for name in ("main", "high"))
    session.commit()


@pytest.fixture
def engine():
    engine = create_engine("sqlite://", poolclass=StaticPool)
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        fill(session)
    yield engine
    engine.dispose()


def test_objects_come_in_the_order_of_their_keys(engine):
    with Session(engine) as session:
        found = get_many(session, City, [3, 1, 99_999, 3, None])

        assert [each and each.name for each in found] == ["city 3", "city 1", None, "city 3", None]
        assert found[0] is found[3]


def test_each_statement_is_for_500_keys(engine, statements):
    with Session(engine) as session, statements(engine) as sent:
        found = get_many(session, City, range(1, CITIES + 1))

        assert [each.id for each in found] == list(range(1, CITIES + 1))
        assert len(sent) == 3


def test_no_keys_send_no_statement(engine, statements):
    with Session(engine) as session, statements(engine) as sent:
        assert get_many(session, City, []) == []
        assert get_many(session, City, [None]) == [None]
        assert sent == []


def test_what_the_session_holds_is_not_asked_for(engine, statements):
    with Session(engine) as session:
        held = [session.get(City, 1), session.get(City, 2)]
        with statements(engine) as sent:
            assert get_many(session, City, [2, 1]) == held[::-1]
        assert sent == []


def test_what_it_holds_expired_is_refreshed(engine, statements):
    with Session(engine) as session:
        held = [session.get(City, i) for i in (1, 2, 3)]
        session.commit()
        session.execute(text("DELETE FROM city WHERE id = 3"))
        with statements(engine) as sent:
            assert get_many(session, City, [1, 2, 3]) == [held[0], held[1], None]
            assert held[0].name == "city 1"
        assert len(sent) == 1


def test_keys_of_several_columns_are_tuples_or_by_name(engine, statements):
    with Session(engine) as session, statements(engine) as sent:
        found = get_many(session, Street, [(1, "main"), {"city_id": 2, "name": "high"}, (1, "none")])

        assert [each and (each.city_id, each.name) for each in found] == [(1, "main"), (2, "high"), None]
        assert len(sent) == 1


def test_rows_of_a_query_are_keys(engine):
    with Session(engine) as session:
        cities = session.execute(select(City.id).where(City.id < 3).order_by(City.id)).all()
        streets = session.execute(select(Street.city_id, Street.name).where(Street.name == "high")).all()

        assert [each.name for each in get_many(session, City, cities)] == ["city 1", "city 2"]
        assert [(each.city_id, each.name) for each in get_many(session, Street, streets)] == streets


def test_an_object_of_another_class_is_none(engine):
    with Session(engine) as session:
        session.get(City, 1)

        assert get_many(session, Capital, [1, 2, 5_000])[:2] == [None, None]
        assert get_many(session, City, [5_000])[0].name == "capital"


def test_options_are_those_of_a_get(engine, statements):
    with Session(engine) as session, statements(engine) as sent:
        cities = get_many(session, City, [1, 2, 3], options=[joinedload(City.streets)])

        assert [len(city.streets) for city in cities] == [2, 2, 0]
        assert len(sent) == 1


def test_a_text_for_a_number_finds_what_the_database_finds(engine):
    with Session(engine) as session:
        assert [each and each.id for each in get_many(session, City, ["1", 2, "x"])] == [1, 2, None]


@pytest.mark.parametrize("key", [(1, 2), (), {"other": 1}, {"id": 1, "name": "x"}])
def test_a_key_of_another_shape_is_refused(engine, key):
    with Session(engine) as session, pytest.raises(InvalidRequestError, match="the key of City has"):
        get_many(session, City, [1, key])


def test_pending_changes_are_flushed_before(engine):
    with Session(engine) as session:
        session.add(City(id=7_000, name="new"))

        assert get_many(session, City, [7_000])[0].name == "new"


async def test_an_async_session_is_awaited(tmp_path):
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'cities.db'}")
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    async with AsyncSession(engine) as session:
        await session.run_sync(fill)
        cities = await get_many(session, City, [2, 99_999, 1])
        assert [city and city.id for city in cities] == [2, None, 1]
    await engine.dispose()


async def test_the_session_of_a_registry_serves(tmp_path):
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'cities.db'}")
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    current = async_scoped_session(async_sessionmaker(engine), scopefunc=asyncio.current_task)
    await current().run_sync(fill)
    assert [city and city.id for city in await get_many(current, City, [2, 99_999])] == [2, None]
    await current.remove()
    await engine.dispose()


def test_so_does_that_of_a_thread(engine):
    current = scoped_session(sessionmaker(engine))

    assert [city and city.id for city in get_many(current, City, [2, 99_999])] == [2, None]
    current.remove()


keys = st.lists(st.one_of(st.none(), st.integers(1, 30), st.integers(4_995, 5_005)), max_size=30)


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(before=keys, gone=st.sets(st.integers(1, 30), max_size=5), wanted=keys, expire=st.booleans())
def test_it_is_a_loop_of_gets(engine, before, gone, wanted, expire):
    def run(get):
        with Session(engine) as session:
            held = [session.get(City, key) for key in before if key is not None]
            session.execute(delete(Street))
            session.execute(
                delete(City).where(City.id.in_(gone)), execution_options={"synchronize_session": False}
            )
            if expire:
                session.expire_all()
            found = get(session)
            assert held is not None
            return [each and (type(each).__name__, each.id) for each in found]

    loop = run(lambda session: [None if key is None else session.get(City, key) for key in wanted])

    assert run(lambda session: get_many(session, City, wanted)) == loop
