"""A fetch asks for what a lazy load of the object in the session would ask for."""

from __future__ import annotations

from contextlib import closing

import pytest
from sqlalchemy import create_engine, insert, select, update
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship
from sqlalchemy.pool import StaticPool

from upshift.sql.fetch_plans.fetch_plans import FetchPlans


class Base(DeclarativeBase):
    pass


class Seat(Base):
    __tablename__ = "seat"
    id: Mapped[int] = mapped_column(primary_key=True)
    row: Mapped[int]
    neighbours: Mapped[list[Seat]] = relationship(
        primaryjoin="foreign(Seat.row) == remote(Seat.row)",
        viewonly=True,
        uselist=True,
        order_by="remote(Seat.id)",
    )


@pytest.fixture
def engine():
    engine = create_engine("sqlite://", poolclass=StaticPool)
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(insert(Seat), [{"id": n, "row": n % 2} for n in range(1, 7)])
    yield engine
    engine.dispose()


def seats_of(session):
    return session.scalars(select(Seat).order_by(Seat.id)).all()


def walk(engine):
    """Read neighbours of seats that the session has known since before another row was written to one."""
    with Session(engine) as session:
        known = seats_of(session)
        session.execute(update(Seat.__table__).where(Seat.id == 1).values(row=0))
        seats = seats_of(session)
        assert seats == known
        return [[one.id for one in seat.neighbours] for seat in seats]


def test_an_older_object_asks_by_the_columns_that_it_has(engine):
    lazy = walk(engine)
    with closing(FetchPlans([engine])) as plans:
        assert [walk(engine) for _ in range(3)] == [lazy] * 3
        assert plans.faults == 0


def test_an_object_of_the_statement_itself_has_them_fetched(engine, statements):
    with closing(FetchPlans([engine])):
        for expected in (7, 2):
            with Session(engine) as session, statements(engine) as sent:
                assert all(len(seat.neighbours) == 3 for seat in session.scalars(select(Seat)))
            assert len(sent) == expected
