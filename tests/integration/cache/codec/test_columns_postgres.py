"""Columns of PostgreSQL's types: what each driver makes of them comes back as it was."""

from __future__ import annotations

import datetime as dt
import enum
import ipaddress
from decimal import Decimal
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import DateTime, Numeric, create_engine, inspect, make_url, select
from sqlalchemy.dialects.postgresql import (
    ARRAY,
    INET,
    INT4MULTIRANGE,
    INT4RANGE,
    JSONB,
    TSTZRANGE,
    MultiRange,
    Range,
)
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.types import String

from upshift.cache.codec import codec_for
from upshift.cache.codec.instances import is_same


class Status(enum.Enum):
    ACTIVE = "active"
    HIDDEN = "hidden"


class Base(DeclarativeBase):
    pass


class Thing(Base):
    __tablename__ = "thing"
    id: Mapped[UUID] = mapped_column(primary_key=True)
    price: Mapped[Decimal | None] = mapped_column(Numeric(10, 2))
    status: Mapped[Status | None]
    at: Mapped[dt.datetime | None] = mapped_column(DateTime(timezone=True))
    local: Mapped[dt.datetime | None] = mapped_column(DateTime())
    day: Mapped[dt.date | None]
    opens: Mapped[dt.time | None]
    takes: Mapped[dt.timedelta | None]
    raw: Mapped[bytes | None]
    document: Mapped[dict | list | None] = mapped_column(JSONB)
    tags: Mapped[list[str] | None] = mapped_column(ARRAY(String))
    grid: Mapped[list[list[int]] | None] = mapped_column(ARRAY(Numeric, dimensions=2))
    address: Mapped[ipaddress.IPv4Address | None] = mapped_column(INET)
    sizes: Mapped[Range[int] | None] = mapped_column(INT4RANGE)
    gaps: Mapped[list[Range[int]] | None] = mapped_column(INT4MULTIRANGE)
    during: Mapped[Range[dt.datetime] | None] = mapped_column(TSTZRANGE)


NOON = dt.datetime(2026, 7, 1, 12, tzinfo=dt.UTC)
FULL = {
    "price": Decimal("12.50"),
    "status": Status.HIDDEN,
    "at": NOON,
    "local": dt.datetime(2026, 7, 1, 12, 30, 15, 123456),  # noqa: DTZ001 - a column without zone
    "day": dt.date(2026, 7, 1),
    "opens": dt.time(9, 30),
    "takes": dt.timedelta(days=40, microseconds=-1),
    "raw": b"\x00\xff",
    "document": {"a": [1, 2.5, None, {"b": "瓦斯"}]},
    "tags": ["hot", "new"],
    "grid": [[Decimal(1), Decimal(2)], [Decimal(3), Decimal(4)]],
    "address": ipaddress.IPv4Address("10.0.0.1"),
    "sizes": Range(1, 5),
    "gaps": MultiRange([Range(1, 3), Range(7, 9)]),
    "during": Range(NOON, NOON + dt.timedelta(hours=1)),
}


@pytest.fixture
def url(postgres_database):
    engine = create_engine(postgres_database)
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add_all([Thing(id=uuid4(), **FULL), Thing(id=uuid4()), Thing(id=uuid4(), **FULL)])
        session.commit()
    engine.dispose()
    return make_url(postgres_database)


def compare(things):
    codec = codec_for(list[Thing])
    again = codec.decode(codec.encode(things))
    assert all(isinstance(each.id, UUID) for each in again)
    names = [each.key for each in inspect(Thing).column_attrs if each.key != "id"]  # asyncpg's own class
    for one, other in zip(things, again, strict=True):
        assert one.id == other.id
        for name in names:
            assert is_same(getattr(one, name), getattr(other, name)), name
    return again


@pytest.mark.parametrize("zone", ["UTC", "Asia/Taipei"])
def test_what_psycopg_makes_of_columns_comes_back(url, zone):
    engine = create_engine(url, connect_args={"options": f"-c TimeZone={zone}"})
    with Session(engine) as session:
        again = compare(session.scalars(select(Thing)).all())
    engine.dispose()
    at = next(each.at for each in again if each.at)
    assert at == NOON
    assert at.tzinfo == ZoneInfo(zone) or at.tzinfo is dt.UTC


async def test_what_asyncpg_makes_of_columns_comes_back(url):
    engine = create_async_engine(url.set(drivername="postgresql+asyncpg"))
    async with AsyncSession(engine) as session:
        again = compare((await session.scalars(select(Thing))).all())
    await engine.dispose()
    full = next(each for each in again if each.at)
    assert {name: getattr(full, name) for name in FULL} == FULL
