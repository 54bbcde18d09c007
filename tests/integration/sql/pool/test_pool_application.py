"""Pools of a whole application: warmed at its start, told of while it runs, and left as they were."""

from __future__ import annotations

import asyncio
import gc
import logging

import httpx
import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.ext.asyncio import create_async_engine
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from upshift import Upshift
from upshift.diagnose import lifespan
from upshift.telemetry import expose


@pytest.fixture
async def engine(postgres_database):
    engine = create_async_engine(postgres_database.replace("+psycopg", "+asyncpg"), pool_size=3)
    yield engine
    await engine.dispose()


def client_of(app):
    transport = httpx.ASGITransport(app, client=("127.0.0.1", 5000))
    return httpx.AsyncClient(transport=transport, base_url="http://localhost")


async def test_an_application_starts_with_connections_and_tells_who_has_them(engine):
    held, free = asyncio.Event(), asyncio.Event()

    async def hold(_request):
        async with engine.connect() as connection:
            await connection.execute(text("SELECT 1"))
            held.set()
            await free.wait()
        return PlainTextResponse("held")

    app = Starlette(routes=[Route("/hold/{number}", hold)])
    up = Upshift(app, engine=engine, pool_sizing="auto", pool_checks=True, pool_warm=2)
    async with lifespan(app), client_of(app) as client:
        assert engine.pool.checkedin() == 2
        holding = asyncio.create_task(client.get("/hold/7"))
        await held.wait()
        (pool,) = (await client.get("/upshift/pools")).json()["pools"]
        refused = await client.get("/upshift/pools", headers={"x-forwarded-for": "10.0.0.7"})
        free.set()
        assert (await holding).text == "held"
        (use,) = pool["in_use"]
        assert (use["route"], use["statements"], use["in_transaction"]) == ("GET /hold/{number}", 1, True)
        assert "hold" in use["site"]
        assert refused.status_code == 403
        told = expose(up.metrics).body.decode()
        assert "db_client_connection_limit{" in told
        assert "db_client_connection_limit_max{" in told
    up.close()
    assert (engine.pool.size(), engine.pool._max_overflow) == (3, 10)


async def test_an_application_starts_though_its_database_is_away(postgres_database, caplog):
    engine = create_async_engine(
        postgres_database.replace("+psycopg", "+asyncpg").replace("/test_", "/missing_")
    )
    app = Starlette()
    up = Upshift(app, engine=engine, pool_sizing="auto", pool_checks=True, pool_warm=2)
    with caplog.at_level(logging.WARNING, "upshift.sql"):
        async with lifespan(app), client_of(app) as client:
            assert (await client.get("/livez")).status_code == 200
    assert "0 of 2 connections were opened at the start" in caplog.text
    up.metrics.refresh()
    faults = {each.labels: each.values[0] for each in up.metrics.series() if each.family == "upshift_faults"}
    assert faults["pool_care",] == 0
    up.close()
    await engine.dispose()


async def test_a_leak_is_found_logged_and_counted(postgres_database, caplog):
    engine = create_engine(postgres_database)

    def leak(_request):
        engine.connect().execute(text("SELECT 1"))
        gc.collect()
        return PlainTextResponse("leaked")

    app = Starlette(routes=[Route("/leak", leak)])
    up = Upshift(app, engine=engine)
    async with client_of(app) as client:
        for _ in range(3):
            await client.get("/leak")
    (finding,) = [each for each in up.findings() if each.code == "UP404"]
    assert (finding.routes, finding.data["count"]) == (("GET /leak",), 3)
    assert finding.site.function.endswith("leak")
    assert (
        b'db_client_connection_leaks_total{db_client_connection_pool_name="test_' in expose(up.metrics).body
    )
    assert caplog.text.count("UP404") == 1
    up.close()
    engine.dispose()
