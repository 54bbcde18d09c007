"""Values with mapped objects that processes share: each caller gets its own, from Redis and from memory."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import create_engine, inspect
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.pool import StaticPool


class Base(DeclarativeBase):
    pass


class City(Base):
    __tablename__ = "city"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


@pytest.fixture
def engine():
    engine = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add(City(id=1, name="Taipei"))
        session.commit()
    yield engine
    engine.dispose()


@pytest.fixture
def loads():
    return []


def cached_city(cache, engine, loads):
    @cache.cached(namespace="city", tags=["cities"])
    def city() -> City:
        loads.append(1)
        with Session(engine) as session:
            return session.get(City, 1)

    return city


def test_another_process_has_objects_of_its_own(make_cache, engine, loads):
    here, there = (cached_city(make_cache(), engine, loads) for _ in range(2))
    here().name = "changed by its caller"

    found = [there() for _ in range(3)]
    assert [each.name for each in found] == ["Taipei"] * 3
    assert len({id(each) for each in found}) == 3
    assert all(inspect(each).detached for each in found)
    assert loads == [1]


def test_threads_that_wait_for_one_load_have_objects_of_their_own(make_cache, engine, loads):
    city = cached_city(make_cache(), engine, loads)
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda _: city(), range(40)))
    assert len({id(each) for each in found}) == 40


def test_one_that_would_not_come_back_is_handed_to_its_caller_alone(make_cache, engine, loads):
    cache = make_cache()

    @cache.cached(namespace="new", tags=["cities"])
    def new() -> City:
        loads.append(1)
        return City(id=2, name="not in the database")

    assert new() is not new()
    assert loads == [1, 1]
    assert "would not come back as it is" in str(cache.statistics()["new"].refused)
