"""Fetch plans as an application turns them on."""

from __future__ import annotations

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from upshift import Upshift
from upshift.errors import SettingsError

fastapi = pytest.importorskip("fastapi")
testclient = pytest.importorskip("fastapi.testclient")


@pytest.fixture
def app(engine, shop):
    app = fastapi.FastAPI()
    order = shop["Order"]

    @app.get("/orders/{kind}")
    def orders(kind: str):
        with Session(engine) as session:
            found = session.scalars(select(order).order_by(order.id))
            return [len(each.items) if kind == "items" else each.customer.name for each in found]

    @app.get("/numbers")
    def numbers():
        with Session(engine) as session:
            return [each.id for each in session.scalars(select(order).order_by(order.id))]

    return app


def test_a_route_learns_and_the_same_json_comes_with_fewer_statements(app, engine, statements):
    upshift = Upshift(app, engine=engine, fetch_plans="learn")
    counts, answers = [], []
    with testclient.TestClient(app) as client:
        for path in ("/orders/items", "/orders/items", "/numbers"):
            with statements(engine) as sent:
                answers.append(client.get(path).json())
            counts.append(len(sent))
    (plan,) = upshift.fetch_plans
    upshift.close()

    assert counts == [25, 2, 1]
    assert answers[0] == answers[1] == [3] * 24
    assert (plan.operation, plan.options) == ("GET /orders/{kind}", ("selectinload(Order.items)",))
    assert plan.site.function.endswith("orders")


def test_closed_it_leaves_the_application_as_it_was(app, engine, statements):
    Upshift(app, engine=engine, fetch_plans="learn").close()
    with testclient.TestClient(app) as client:
        for _ in range(2):
            with statements(engine) as sent:
                client.get("/orders/items")
            assert len(sent) == 25


def test_off_by_default(app, engine):
    upshift = Upshift(app, engine=engine)
    assert upshift.fetch_plans == ()
    upshift.close()


def test_any_other_word_is_refused(app, engine):
    with pytest.raises(SettingsError, match="off or learn"):
        Upshift(app, engine=engine, fetch_plans="always")
