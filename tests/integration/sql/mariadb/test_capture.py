"""Statements, transactions, pools and comments on MariaDB, by sync and async drivers."""

from __future__ import annotations

import asyncio
import time

import httpx
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from upshift import Upshift
from upshift.telemetry import expose

from .conftest import Customer, Sale


def names(session: Session) -> list[str]:
    sales = session.scalars(sa.select(Sale).where(Sale.note == "x").order_by(Sale.id)).all()
    return [sale.customer.name for sale in sales]


def write(session: Session) -> None:
    session.add(Customer(name="written"))
    session.flush()
    session.rollback()
    session.execute(sa.update(Sale).where(Sale.id == 1).values(note="y"))
    session.execute(sa.update(Sale).where(Sale.id == 1).values(note="x"))
    session.commit()


class Shop:
    """An application on one engine, observed."""

    def __init__(self, engine, **settings):
        self.engine = engine
        self.app = Starlette(
            routes=[
                Route("/names", self.answer(names)),
                Route("/write", self.answer(write), methods=["POST"]),
                Route("/fail", self.answer(lambda session: session.execute(sa.text("SELECT nothing")))),
            ]
        )
        self.up = Upshift(self.app, engine=engine, sample_rate=1.0, **settings)

    def answer(self, work):
        async def answer_sync(_request):
            with Session(self.engine) as session:
                return JSONResponse(work(session))

        async def answer_async(_request):
            async with AsyncSession(self.engine) as session:
                return JSONResponse(await session.run_sync(work))

        return answer_sync if isinstance(self.engine, sa.Engine) else answer_async

    async def ask(self, method: str, path: str):
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            await client.request(method, path)
        return self.up.observation().records[-1]

    async def close(self):
        self.up.close()
        if isinstance(self.engine, sa.Engine):
            self.engine.dispose()
        else:
            await self.engine.dispose()


@pytest.fixture(params=["pymysql", "aiomysql"])
async def new_shop(request, mariadb_server, shop):
    shops = []

    def make(**settings) -> Shop:
        create = sa.create_engine if request.param == "pymysql" else create_async_engine
        engine = create(mariadb_server.url(shop, driver=request.param), pool_logging_name="shop")
        shops.append(Shop(engine, **settings))
        return shops[-1]

    yield make
    for each in shops:
        await each.close()


async def test_statements_are_recorded_with_rows_time_and_line(new_shop):
    record = await new_shop().ask("GET", "/names")

    assert len(record.statements) == 41
    first, second = record.statements[:2]
    assert first.rows == 40
    assert first.execute_seconds > 0
    assert first.site.function == "names"
    assert second.lazy_load.relationship == "Sale.customer"
    assert second.rows == 1


async def test_failed_statements_are_recorded_with_their_error(new_shop):
    record = await new_shop().ask("GET", "/fail")

    assert record.status == 500
    assert record.statements[-1].error == "OperationalError"


async def test_transactions_and_pools_are_counted(new_shop):
    shop = new_shop()
    await shop.ask("POST", "/write")
    body = expose(shop.up.metrics).body.decode()

    transactions = 'db_client_transactions_total{db_client_connection_pool_name="shop",outcome='
    assert f'{transactions}"rollback"}} 1.0' in body
    assert f'{transactions}"commit"}} 1.0' in body
    assert 'db_client_connection_use_time_seconds_count{db_client_connection_pool_name="shop"} 2.0' in body


async def test_comments_come_to_the_server_and_not_into_records(new_shop, mariadb_server, shop):
    observed = new_shop(sql_comments=True)
    engine = sa.create_engine(mariadb_server.url(shop, driver="pymysql"))
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("SET GLOBAL log_output = 'TABLE'")
        connection.exec_driver_sql("TRUNCATE mysql.general_log")
        connection.exec_driver_sql("SET GLOBAL general_log = ON")
        record = await observed.ask("GET", "/names")
        connection.exec_driver_sql("SET GLOBAL general_log = OFF")
        sent = connection.exec_driver_sql("SELECT argument FROM mysql.general_log").scalars().all()
    engine.dispose()

    texts = [text.decode() if isinstance(text, bytes) else text for text in sent]
    assert any("FROM sale" in text and "route='%2Fnames'" in text for text in texts)
    assert all("/*" not in statement.sql for statement in record.statements)


async def test_lazy_loads_are_batched(new_shop):
    shop = new_shop(batching=True)
    await shop.ask("GET", "/names")
    record = await shop.ask("GET", "/names")

    assert len(record.statements) < 10


async def test_an_n_plus_1_is_found(new_shop):
    shop = new_shop()
    await shop.ask("GET", "/names")

    found = {finding.code for finding in shop.up.findings()}
    assert "UP101" in found


async def test_slow_statements_are_explained_beside_the_application(new_shop):
    shop = new_shop(slow_statement_seconds=0.0)
    await shop.ask("GET", "/names")
    deadline = time.monotonic() + 20
    while not (plans := shop.up.observation().plans):
        assert time.monotonic() < deadline, "no plan came"
        await asyncio.sleep(0.02)

    explained = {node.relation for plan in plans for node in plan.runs[-1].tree.nodes}
    assert explained & {"sale", "customer"}


async def test_nothing_of_upshifts_fails_there(new_shop):
    shop = new_shop(slow_statement_seconds=0.0, sql_comments=True, batching=True)
    for method, path in (("GET", "/names"), ("GET", "/fail"), ("POST", "/write")):
        await shop.ask(method, path)
    shop.up.findings()
    body = expose(shop.up.metrics).body.decode()

    faults = [line for line in body.splitlines() if line.startswith("upshift_faults_total{")]
    assert faults
    assert [line for line in faults if not line.endswith(" 0.0")] == []


async def test_closing_leaves_the_driver_as_it_was(new_shop):
    shop = new_shop()
    await shop.ask("GET", "/names")
    shop.up.close()
    dialect = shop.engine.dialect
    assert not {"do_execute", "do_commit", "do_rollback"} & vars(dialect).keys()
