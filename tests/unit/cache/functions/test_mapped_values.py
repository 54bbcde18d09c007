"""Values with mapped objects: each caller of a cached function gets objects of its own."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from sqlalchemy import create_engine, inspect, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.pool import StaticPool

from upshift.errors import CodecError


class Base(DeclarativeBase):
    pass


class City(Base):
    __tablename__ = "city"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


@pytest.fixture
def engine(cache):
    engine = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add_all([City(id=1, name="Taipei"), City(id=2, name="Tainan")])
        session.commit()
    cache.watch([engine])
    yield engine
    engine.dispose()


@pytest.fixture
def loads():
    return []


@pytest.fixture
def city(cache, engine, loads):
    @cache.cached()
    def city(number: int) -> City:
        loads.append(number)
        with Session(engine) as session:
            return session.get(City, number)

    return city


def test_what_a_caller_changes_nobody_else_sees(city, loads):
    for _ in range(3):
        mine = city(1)
        assert mine.name == "Taipei"
        mine.name = "changed by its caller"
    assert loads == [1]


def test_each_can_be_added_to_a_session_of_its_own(city, engine, loads):
    with Session(engine) as one, Session(engine) as other:
        one.add(city(1))
        other.add(city(1))
        assert inspect(one.get(City, 1)).session is one
    assert loads == [1]


def test_they_come_back_detached_and_unchanged(city):
    city(1)
    again = city(1)
    assert inspect(again).detached
    assert not inspect(again).modified


def test_threads_that_wait_for_one_load_get_objects_of_their_own(cache, engine, loads):
    @cache.cached()
    def cities() -> list[City]:
        loads.append(1)
        with Session(engine) as session:
            return list(session.scalars(select(City).order_by(City.id)))

    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda _: cities(), range(40)))
    assert {each.name for page in found for each in page} == {"Taipei", "Tainan"}
    assert len({id(each) for page in found for each in page}) == 80


async def test_coroutines_get_objects_of_their_own_too(cache, engine):
    @cache.cached()
    async def city() -> City:
        with Session(engine) as session:
            return session.get(City, 1)

    await city()
    first, second = await city(), await city()
    assert first is not second
    assert first.name == second.name == "Taipei"


def test_the_value_that_is_looked_up_is_a_copy(city):
    city(1)
    city.get(1).name = "changed"
    assert city.get(1).name == "Taipei"


def test_one_that_would_not_come_back_is_not_kept_and_told_of_once(cache, loads, caplog):
    @cache.cached()
    def new(number: int) -> City:
        loads.append(number)
        return City(id=number, name="not in the database")

    with caplog.at_level(logging.WARNING, "upshift.cache"):
        assert new(1) is not new(1)
        new(2)
    assert loads == [1, 1, 2]
    (told,) = caplog.messages
    assert "it is not in the database yet" in told
    refused = cache.statistics()[new.__wrapped__.__module__ + "." + new.__wrapped__.__qualname__].refused
    assert refused == {"it holds a mapped object that would not come back as it is": 3}


def test_they_are_loaded_anew_ahead_of_their_end_as_others_are(cache, engine, loads):
    @cache.cached(ttl=timedelta(seconds=100), refresh_ahead=0.5)
    def city() -> City:
        loads.append(1)
        with Session(engine) as session:
            return session.get(City, 1)

    city()
    (entry,) = cache._memory.entries.values()
    assert entry.made + 40 < entry.renewal < entry.expires
    city()
    assert loads == [1]


def test_they_are_counted_by_their_bytes(cache, city):
    city(1)
    (entry,) = cache._memory.entries.values()
    assert entry.size == len(entry.value.data) < 1_000


def test_a_value_that_is_set_by_name_is_copied(cache, engine):
    with Session(engine) as session:
        cache.set("capital", session.get(City, 1))
    cache.get("capital").name = "changed"
    assert cache.get("capital").name == "Taipei"


def test_a_value_that_cannot_be_copied_is_not_set(cache):
    with pytest.raises(CodecError, match="not in the database yet"):
        cache.set("capital", City(name="new"))
