"""Mapped objects from bytes, beside the query that they replace and beside pickle.

    python benchmarks/codec.py

A page of 100 products with nine columns: numbers, texts of which no two are alike, a flag, two times. The
query runs on SQLite in memory, which is the quickest there is, with its compiled form cached, in a session
that is opened and closed within its time. Ours brings the objects detached, as pickle does, and into such a
session, as the query does. Objects with their reviews,
of which each has three, and one object by its key are for comparison.

The sides take turns, and all bring the same values, asserted. A side's time is that of its fastest run of a
block, for what disturbs a machine only ever adds, and the ratio is the median over the blocks' ratios. The
garbage collector is on, as in a service; it has cleaned up before each run, and leaves out what was there.
"""

from __future__ import annotations

import datetime as dt
import gc
import pickle
import statistics
import sys
from random import Random
from time import perf_counter
from typing import TYPE_CHECKING, Any

from report import Case, progress, report
from sqlalchemy import ForeignKey, Select, create_engine, inspect, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship, selectinload
from sqlalchemy.pool import StaticPool

from upshift.cache.codec import codec_for

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ROWS = 100
BLOCKS = 30
PER_BLOCK = 10
QUERY_BAR = 0.5
PICKLE_BAR = 0.25


class Base(DeclarativeBase):
    pass


class Product(Base):
    __tablename__ = "product"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    description: Mapped[str | None]
    cents: Mapped[int]
    weight: Mapped[float]
    is_active: Mapped[bool]
    category_id: Mapped[int]
    created_at: Mapped[dt.datetime]
    updated_at: Mapped[dt.datetime | None]
    reviews: Mapped[list[Review]] = relationship()


class Review(Base):
    __tablename__ = "review"
    id: Mapped[int] = mapped_column(primary_key=True)
    stars: Mapped[int]
    text: Mapped[str]
    product_id: Mapped[int] = mapped_column(ForeignKey("product.id"))


def product(number: int, random: Random) -> Product:
    return Product(
        id=number,
        name=f"product {random.randbytes(6).hex()}",
        description=" ".join(random.choices(("a", "good", "hose", "for", "gas", "valve", "new"), k=20)),
        cents=random.randint(100, 100_000),
        weight=random.random(),
        is_active=number % 5 > 0,
        category_id=number % 7,
        created_at=dt.datetime.fromtimestamp(random.randint(1, 10**9), dt.UTC).replace(tzinfo=None),
        updated_at=None,
        reviews=[Review(stars=stars, text=f"{stars} stars of {number}") for stars in (1, 3, 5)],
    )


def columns_of(objects: Sequence[Product]) -> list[dict[str, Any]]:
    names = [each.key for each in inspect(Product).column_attrs]
    return [{name: getattr(one, name) for name in names} for one in objects]


def measure(ours: Callable[[], Any], peer: Callable[[], Any]) -> tuple[float, float, float]:
    """Return the times of both sides in microseconds, and the median of their ratios."""
    blocks = []
    for _ in range(BLOCKS):
        best = []
        for side in (ours, peer):
            times = []
            for _ in range(PER_BLOCK):
                gc.collect()
                began = perf_counter()
                brought = side()
                times.append(perf_counter() - began)
                del brought
            best.append(min(times))
        blocks.append(best)
    mine, others = zip(*blocks, strict=True)
    ratio = statistics.median(one / other for one, other in blocks)
    return statistics.median(mine) * 1e6, statistics.median(others) * 1e6, ratio


def main() -> int:
    engine = create_engine("sqlite://", poolclass=StaticPool)
    Base.metadata.create_all(engine)
    random = Random(1)
    with Session(engine) as session:
        session.add_all(product(number, random) for number in range(1, ROWS + 1))
        session.commit()

    page = select(Product).order_by(Product.id)
    whole = page.options(selectinload(Product.reviews))

    def query(statement: Select[tuple[Product]] = page) -> Sequence[Product]:
        with Session(engine) as session:
            return session.scalars(statement).all()

    def get() -> Product | None:
        with Session(engine) as session:
            return session.get(Product, 1)

    codec, codec_of_one = codec_for(list[Product]), codec_for(Product)
    kept, kept_whole, kept_one = codec.encode(query()), codec.encode(query(whole)), codec_of_one.encode(get())
    pickled = pickle.dumps(query())

    def in_session(data: bytes = kept) -> list[Product]:
        with Session(engine) as session:
            products: list[Product] = codec.decode(data, session)
            return products

    assert columns_of(codec.decode(kept)) == columns_of(in_session()) == columns_of(query())
    assert columns_of(pickle.loads(pickled)) == columns_of(query())
    assert [len(one.reviews) for one in codec.decode(kept_whole)] == [3] * ROWS
    gc.freeze()
    progress(f"{ROWS} objects: {len(kept)} bytes, pickled {len(pickled)}")

    memory = "query on SQLite in memory"
    pairs: list[tuple[str, Callable[[], Any], Callable[[], Any], str, float | None]] = [
        ("100 objects", lambda: codec.decode(kept), query, memory, QUERY_BAR),
        ("100 objects in a session", in_session, query, memory, QUERY_BAR),
        ("100 objects", lambda: codec.decode(kept), lambda: pickle.loads(pickled), "pickle", PICKLE_BAR),
        ("100 with 3 others each", lambda: in_session(kept_whole), lambda: query(whole), memory, None),
        ("one object", lambda: codec_of_one.decode(kept_one), get, memory, None),
    ]
    cases = []
    for name, ours, peer, peer_name, bar in pairs:
        mine, other, ratio = measure(ours, peer)
        progress(f"{name}: {mine:.0f} µs, {peer_name} {other:.0f} µs")
        cases.append(Case(name, round(mine, 1), round(other, 1), peer_name, bar, "µs", ratio))
    engine.dispose()
    return report("codec", cases, ("sqlalchemy", "msgspec"))


if __name__ == "__main__":
    sys.exit(main())
