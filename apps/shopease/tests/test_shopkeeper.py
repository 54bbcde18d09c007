"""What goes on in the shop: each change is committed, and none takes another back."""

from collections.abc import Iterator
from pathlib import Path
from random import Random
from types import ModuleType

import pytest
from fastapi import FastAPI
from shopease.dataset import load
from shopease.models import Order, OrderItem, Product, Review
from sqlalchemy import Engine, create_engine, func, select
from sqlalchemy.orm import Session, sessionmaker


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = create_engine(f"sqlite:///{tmp_path / 'shop.db'}")
    load(engine, scale=0.05)
    yield engine
    engine.dispose()


@pytest.fixture
def keeper(app: FastAPI, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module, which can be imported once the application has a database."""
    from shopease import shopkeeper

    monkeypatch.setattr(shopkeeper, "new_session", sessionmaker(engine))
    return shopkeeper


def counts(engine: Engine) -> dict[str, int]:
    with Session(engine) as session:
        return {
            kind.__name__: session.scalar(select(func.count()).select_from(kind)) or 0
            for kind in (Order, OrderItem, Review)
        }


def goods(engine: Engine) -> dict[int, tuple[int, int]]:
    with Session(engine) as session:
        products = session.execute(select(Product.id, Product.price_cents, Product.stock))
        return {number: (price, stock) for number, price, stock in products}


def test_orders_reviews_and_prices_are_committed(keeper: ModuleType, engine: Engine) -> None:
    before, goods_before, random = counts(engine), goods(engine), Random(7)
    for _ in range(40):
        keeper.work(random)

    after, goods_after = counts(engine), goods(engine)
    assert after["Order"] - before["Order"] == after["OrderItem"] - before["OrderItem"] > 10
    assert after["Review"] > before["Review"]
    assert any(goods_after[number][0] > price for number, (price, _) in goods_before.items())
    assert any(goods_after[number][1] < stock for number, (_, stock) in goods_before.items())


def test_no_price_or_stock_comes_back_to_what_it_was(keeper: ModuleType, engine: Engine) -> None:
    random = Random(7)
    for _ in range(20):
        before = goods(engine)
        keeper.work(random)
        after = goods(engine)
        assert all(after[number][0] >= price for number, (price, _) in before.items())
        assert all(after[number][1] <= stock for number, (_, stock) in before.items())
