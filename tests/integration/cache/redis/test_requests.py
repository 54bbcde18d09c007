"""What the record of a request tells of a cache in Redis: values found, and the time that took."""

from __future__ import annotations

import asyncio
import json

import pytest
from fastapi import FastAPI
from httpx import ASGITransport, AsyncClient
from redis import Redis

from tests.unit.cache.redis.conftest import open_at_once
from upshift import Cache, Upshift


@pytest.fixture
def served(valkey_server):
    app = FastAPI()
    cache = Cache(valkey_server.url, name="requests", timeout="5s")
    up = Upshift(app, cache=cache, sample_rate=1.0, server_timing="always")
    with Redis.from_url(valkey_server.url) as client:
        open_at_once(cache, client)

    @cache.cached(namespace="menu")
    async def menu(number: int) -> int:
        return number

    @cache.cached(namespace="sync")
    def sync(number: int) -> int:
        return number

    @app.get("/menu")
    async def read():
        return await menu(1) + await menu(2)

    @app.get("/sync")
    def read_in_a_thread():
        return sync(1)

    @app.get("/plain")
    async def plain():
        return 1

    yield app, up, menu
    up.close()


async def get(app, path):
    async with AsyncClient(transport=ASGITransport(app), base_url="http://shop") as asking:
        return await asking.get(path)


async def test_values_that_redis_holds_are_hits_of_the_request_and_the_wait_is_told(served):
    app, up, _ = served
    for path in ("/menu", "/menu", "/sync", "/sync", "/plain"):
        answer = await get(app, path)
    records = up.observation().records
    assert [each.cache_hits for each in records] == [0, 2, 0, 1, 0]
    assert [each.cache_seconds > 0 for each in records] == [True] * 4 + [False]
    assert "cache;dur=0.0" in answer.headers["server-timing"]


async def test_requests_at_once_each_have_their_own(served):
    app, up, _ = served
    await get(app, "/menu")
    await asyncio.gather(*[get(app, path) for path in ("/menu", "/plain", "/menu", "/plain")])
    hits = sorted((each.path, each.cache_hits) for each in up.observation().records[1:])
    assert hits == [("/menu", 2), ("/menu", 2), ("/plain", 0), ("/plain", 0)]


async def test_outside_of_a_request_nobody_is_told(served):
    _, up, menu = served
    assert (await menu(3), await menu(3)) == (3, 3)
    assert up.observation().records == ()


async def test_a_circuit_that_is_closed_passes_the_health_check(served):
    app, *_ = served
    told = (await get(app, "/health")).json()["checks"]
    (checked,) = next(each for name, each in told.items() if name.startswith("upshift-cache"))
    assert checked["status"] == "pass"
    assert "the circuit is closed" in json.dumps(checked)
