"""Learned eager loading beside the best that one would write by hand.

    python benchmarks/fetch_plans.py

A route that reads three levels of relationships: orders with their customer, the items of each, and the
product of each item with its brand; on embedded PostgreSQL, through psycopg for sync sessions and asyncpg for
async ones. There is a page of 50 orders, and one of 500. The peers are the options that one could write at
the query: selectin everywhere, joined where a relationship leads to one object, joined everywhere. The best
of them on a page is the peer of its line. Ours is the bare query, after the requests that it took to learn;
in an async session those failed.

All sides see the same answer, asserted. They run in this process on the same database, in blocks that take
turns, with Upshift installed only during its own. A block's time is that of its fastest request, for what
disturbs a machine only ever adds; the ratio is the median over the blocks' ratios. The garbage collector is
on, as in a service, and has cleaned up before each request. Lazy loading is for comparison and not judged.
"""

from __future__ import annotations

import asyncio
import gc
import statistics
import sys
from collections import defaultdict
from time import perf_counter
from typing import TYPE_CHECKING, Any

from report import Case, progress, report
from sqlalchemy import Engine, ForeignKey, Select, create_engine, event, insert, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    joinedload,
    mapped_column,
    relationship,
    selectinload,
)

from upshift.sql import FetchPlans
from upshift.testing.servers import postgres

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    Request = Callable[[Select[Any]], Awaitable[list[Any]]]

BLOCKS = 12
PER_BLOCK = 6
WARMUP = 3
LEARNING = 24

PAGES = (50, 500)
ORDERS, ITEMS_EACH, PRODUCTS, CUSTOMERS, BRANDS = 2_000, 4, 300, 400, 40
TIME_BAR = 1.1


class Base(DeclarativeBase):
    pass


class Customer(Base):
    __tablename__ = "customer"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    email: Mapped[str]


class Brand(Base):
    __tablename__ = "brand"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


class Product(Base):
    __tablename__ = "product"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    description: Mapped[str]
    cents: Mapped[int]
    brand_id: Mapped[int] = mapped_column(ForeignKey("brand.id"))
    brand: Mapped[Brand] = relationship()


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    note: Mapped[str]
    customer_id: Mapped[int] = mapped_column(ForeignKey("customer.id"))
    customer: Mapped[Customer] = relationship()
    items: Mapped[list[Item]] = relationship(order_by="Item.id")


class Item(Base):
    __tablename__ = "item"
    id: Mapped[int] = mapped_column(primary_key=True)
    quantity: Mapped[int]
    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id"), index=True)
    product_id: Mapped[int] = mapped_column(ForeignKey("product.id"))
    product: Mapped[Product] = relationship()


def fill(engine: Engine) -> None:
    Base.metadata.create_all(engine)
    rows: dict[type[Base], list[dict[str, Any]]] = {
        Customer: [
            {"id": n, "name": f"customer {n}", "email": f"{n}@example.org"} for n in range(1, CUSTOMERS + 1)
        ],
        Brand: [{"id": n, "name": f"brand {n}"} for n in range(1, BRANDS + 1)],
        Product: [
            {
                "id": n,
                "title": f"product {n}",
                "description": f"What there is to say of product {n}. " * 4,
                "cents": n * 37 % 9_000,
                "brand_id": n % BRANDS + 1,
            }
            for n in range(1, PRODUCTS + 1)
        ],
        Order: [
            {"id": n, "note": f"order {n}", "customer_id": n * 7 % CUSTOMERS + 1}
            for n in range(1, ORDERS + 1)
        ],
        Item: [
            {
                "id": n,
                "quantity": n % 5 + 1,
                "order_id": n % ORDERS + 1,
                "product_id": n * 11 % PRODUCTS + 1,
            }
            for n in range(1, ORDERS * ITEMS_EACH + 1)
        ],
    }
    with engine.begin() as connection:
        for model, values in rows.items():
            connection.execute(insert(model), values)
    with engine.connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT").exec_driver_sql("VACUUM ANALYZE")


OPTIONS: dict[str, tuple[Any, ...]] = {
    "selectinload everywhere": (
        selectinload(Order.customer),
        selectinload(Order.items).selectinload(Item.product).selectinload(Product.brand),
    ),
    "joinedload to one, selectinload to many": (
        joinedload(Order.customer),
        selectinload(Order.items).joinedload(Item.product).joinedload(Product.brand),
    ),
    "joinedload of the customer, selectinload below": (
        joinedload(Order.customer),
        selectinload(Order.items).selectinload(Item.product).selectinload(Product.brand),
    ),
    "joinedload everywhere": (
        joinedload(Order.customer),
        joinedload(Order.items).joinedload(Item.product).joinedload(Product.brand),
    ),
}


def statement_for(page: int, options: Sequence[Any] = ()) -> Select[Any]:
    return select(Order).where(Order.id <= page).order_by(Order.id).options(*options)


def answer(orders: Sequence[Order]) -> list[Any]:
    return [
        (
            order.id,
            order.customer.name,
            [(item.quantity, item.product.title, item.product.brand.name) for item in order.items],
        )
        for order in orders
    ]


def sync_request(engine: Engine) -> Request:
    async def request(statement: Select[Any]) -> list[Any]:
        with Session(engine) as session:
            return answer(session.scalars(statement).unique().all())

    return request


def async_request(engine: AsyncEngine) -> Request:
    async def request(statement: Select[Any]) -> list[Any]:
        async with AsyncSession(engine) as session:
            return answer((await session.scalars(statement)).unique().all())

    return request


async def learn(request: Request, statement: Select[Any]) -> None:
    """Send requests until the plan is settled; each that fails teaches."""
    for _ in range(LEARNING):
        try:
            await request(statement)
        except SQLAlchemyError:
            continue


async def time_of(request: Request, statement: Select[Any]) -> float:
    """Milliseconds for the fastest request of a block."""
    for _ in range(WARMUP):
        await request(statement)
    best = float("inf")
    for _ in range(PER_BLOCK):
        gc.collect()
        started = perf_counter()
        await request(statement)
        best = min(best, perf_counter() - started)
    return best * 1_000


async def statements_of(engine: Engine, request: Request, statement: Select[Any]) -> int:
    sent: list[str] = []

    def note(_connection: object, _cursor: object, text: str, *_rest: object) -> None:
        sent.append(text)

    event.listen(engine, "before_cursor_execute", note)
    await request(statement)
    event.remove(engine, "before_cursor_execute", note)
    return len(sent)


async def measure(
    engine: Engine, request: Request, page: int
) -> tuple[dict[str, list[float]], int, dict[str, int]]:
    """Let all sides take turns; times in milliseconds by side, ours under ""."""
    plain = statement_for(page)
    by_hand = {name: statement_for(page, options) for name, options in OPTIONS.items()}
    times: dict[str, list[float]] = defaultdict(list)
    counts = {name: await statements_of(engine, request, each) for name, each in by_hand.items()}
    expected = [await request(each) for each in by_hand.values()]
    ours = 0
    for block in range(BLOCKS):
        sides = list(by_hand.items())
        sides = sides[block % len(sides) :] + sides[: block % len(sides)]
        for name, statement in sides[: len(sides) // 2]:
            times[name].append(await time_of(request, statement))
        plans = FetchPlans([engine])
        await learn(request, plain)
        ours = await statements_of(engine, request, plain)
        answered = await request(plain)
        assert all(answered == each for each in expected)
        times[""].append(await time_of(request, plain))
        assert plans.faults == 0
        plans.close()
        for name, statement in sides[len(sides) // 2 :]:
            times[name].append(await time_of(request, statement))
    return times, ours, counts


async def cases(engine: Engine, request: Request, how: str) -> list[Case]:
    lines = []
    for page in PAGES:
        progress(f"{how}: a page of {page} orders")
        times, ours, counts = await measure(engine, request, page)
        best = min(OPTIONS, key=lambda name: statistics.median(times[name]))
        name = f"{page} orders, three levels, {how}"
        ratio = statistics.median(mine / peer for mine, peer in zip(times[""], times[best], strict=True))
        median = {side: statistics.median(each) for side, each in times.items()}
        lines.append(Case(name, median[""], median[best], f"{best}, by hand", TIME_BAR, "ms", ratio))
        lines += [
            Case(name, median[""], median[other], f"{other}, by hand", None, "ms")
            for other in OPTIONS
            if other != best
        ]
        everywhere = "selectinload everywhere"
        lines.append(Case(name, ours, counts[everywhere], f"{everywhere}, by hand", 1.0, "statements"))
    return lines


async def run(url: Callable[..., str]) -> list[Case]:
    engine = create_engine(url(driver="psycopg"))
    fill(engine)
    lines = await cases(engine, sync_request(engine), "sync")
    lazy = await time_of(sync_request(engine), statement_for(PAGES[0]))
    lines.append(
        Case(f"{PAGES[0]} orders, three levels, sync", lines[0].ours, lazy, "lazy loads", None, "ms")
    )
    engine.dispose()
    asynchronous = create_async_engine(url(driver="asyncpg"))
    lines += await cases(asynchronous.sync_engine, async_request(asynchronous), "async")
    await asynchronous.dispose()
    return lines


def main() -> int:
    FetchPlans([]).close()  # on CPython 3.11 it has to come before the first objects
    with postgres() as server:
        results = asyncio.run(run(server.url))
    return report("fetch_plans", results, ("sqlalchemy", "psycopg", "asyncpg"))


if __name__ == "__main__":
    sys.exit(main())
