"""`upshift fetch-plans`, as a user runs it: the patch applies, and the application works with it."""

import json
import os
import subprocess
import sys

import pytest

SHOP = """
import os
from contextlib import asynccontextmanager

from fastapi import FastAPI
from sqlalchemy import ForeignKey, select
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

engine = create_async_engine(os.environ["DATABASE_URL"])


class Base(DeclarativeBase):
    pass


class Customer(Base):
    __tablename__ = "customer"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    customer_id: Mapped[int] = mapped_column(ForeignKey("customer.id"))
    customer: Mapped[Customer] = relationship()
    items: Mapped[list["Item"]] = relationship()


class Item(Base):
    __tablename__ = "item"
    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id"))


@asynccontextmanager
async def lifespan(_app):
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    async with AsyncSession(engine) as session:
        if await session.get(Order, 1) is None:
            session.add_all(Customer(id=n, name=f"customer {n}") for n in range(1, 4))
            await session.flush()
            session.add_all(Order(id=n, customer_id=n % 3 + 1, items=[Item(), Item()]) for n in range(1, 21))
            await session.commit()
    yield
    await engine.dispose()


app = FastAPI(lifespan=lifespan)


@app.get("/orders")
async def orders():
    async with AsyncSession(engine) as session:
        found = (await session.scalars(select(Order).order_by(Order.id))).all()
        return [{"id": each.id, "customer": each.customer.name, "items": len(each.items)} for each in found]


@app.get("/first")
async def first():
    async with AsyncSession(engine) as session:
        return await run(session, select(Order).limit(5))


async def run(session, query):
    return [len(each.items) for each in await session.scalars(query)]
"""


@pytest.fixture
def shop(tmp_path, postgres_database):
    (tmp_path / "shop.py").write_text(SHOP)
    return {"DATABASE_URL": postgres_database.replace("+psycopg", "+asyncpg")}


def test_the_patch_makes_an_application_work_that_failed(run, shop, tmp_path):
    """Each of its routes raises MissingGreenlet until it has been learned."""
    finished = run("fetch-plans", "shop:app", "--as-patch", **shop)

    assert finished.returncode == 0, finished.stderr
    assert "not in the patch: shop.py" in finished.stderr  # `run` is given its query
    assert "give the query for Order .options(selectinload(Order.items))" in finished.stderr
    subprocess.run(["git", "apply"], input=finished.stdout, text=True, cwd=tmp_path, check=True)
    text = (tmp_path / "shop.py").read_text()
    assert (
        "from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship, selectinload"
        in text
    )
    assert "from sqlalchemy import ForeignKey, select\n" in text
    asked = subprocess.run(
        [sys.executable, "-c", _ASK],
        cwd=tmp_path,
        env={**os.environ, **shop},
        capture_output=True,
        text=True,
        check=False,
    )
    assert asked.stdout.split() == ["200", "20", "3"], asked.stderr


_ASK = """
from fastapi.testclient import TestClient
from sqlalchemy import event
import shop

sent = []
with TestClient(shop.app) as client:
    event.listen(shop.engine.sync_engine, "before_cursor_execute", lambda *a: sent.append(a[2]))
    answer = client.get("/orders")
print(answer.status_code, len(answer.json()), len(sent))
"""


def test_what_is_learned_is_told(run, shop):
    finished = run("fetch-plans", "shop:app", **shop)

    assert finished.returncode == 0, finished.stderr
    assert "GET /orders" in finished.stdout
    assert "Order.options(" in finished.stdout
    assert "2 plans in 2 routes" in finished.stderr


def test_as_json(run, shop):
    finished = run("fetch-plans", "shop:app", "--format", "json", **shop)

    plans = {each["operation"]: each for each in json.loads(finished.stdout)}
    assert set(plans["GET /orders"]["options"]) == {
        "selectinload(Order.customer)",
        "selectinload(Order.items)",
    }
    assert plans["GET /first"]["site"]["function"] == "run"
    assert plans["GET /first"]["loads"][0]["path"] == "Order.items"
