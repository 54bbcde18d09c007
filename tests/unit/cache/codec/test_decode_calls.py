"""Mapped objects read, counted in calls for each one more, so that a slow-down fails without a clock.

A count that rises on purpose is changed here, with the reason in the changelog.
"""

from __future__ import annotations

import sys
from collections import Counter

import pytest
from sqlalchemy import create_engine, insert, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.pool import StaticPool

from upshift.cache.codec import codec_for


class Base(DeclarativeBase):
    pass


class City(Base):
    __tablename__ = "city"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    people: Mapped[int | None]


@pytest.fixture
def engine():
    engine = create_engine("sqlite://", poolclass=StaticPool)
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(insert(City), [{"id": number, "name": f"city {number}"} for number in range(200)])
    yield engine
    engine.dispose()


def counted(work):
    """Return how often some work calls what, in Python and in C."""
    calls = Counter()

    def note(frame, event, argument):
        if event in {"call", "c_call"}:
            calls[frame.f_code.co_name if event == "call" else argument.__name__] += 1

    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
    return calls


def calls_for_each(engine, session):
    """Return the calls that each object costs: those of 200 less those of 100."""
    codec = codec_for(list[City])
    with Session(engine) as reading:
        cities = reading.scalars(select(City)).all()
        many, few = codec.encode(cities), codec.encode(cities[:100])
    codec.decode(many)
    codec.decode(few)
    kept = []
    more = counted(lambda: kept.append(codec.decode(many, session)))
    if session is not None:
        session.expunge_all()
    more.subtract(counted(lambda: kept.append(codec.decode(few, session))))
    for name in ("_cleanup", "_instance_dict"):  # of objects that went away meanwhile
        del more[name]
    return {name: round(count / 100) for name, count in more.items() if count >= 50}


def test_a_detached_object_costs_its_state(engine):
    assert calls_for_each(engine, None) == {"__init__": 1, "__new__": 1, "<genexpr>": 1}


def test_one_in_a_session_costs_its_place_there(engine):
    with Session(engine) as session:
        for_each = calls_for_each(engine, session)
    assert for_each == {"__init__": 1, "__new__": 1, "<genexpr>": 1, "get": 1, "_add_unpresent": 1}
