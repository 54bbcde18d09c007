"""Stored responses in a Valkey: what one process has answered, another gives, and never what is no more."""

from __future__ import annotations

import asyncio
import secrets
import socket

import pytest
from fastapi import BackgroundTasks, FastAPI
from httpx import ASGITransport, AsyncClient
from redis import Redis
from sqlalchemy import create_engine, text
from sqlalchemy.ext.asyncio import create_async_engine

from upshift import Cache, Upshift

READ = text("SELECT price FROM product")


def make_app(engine, runs):
    app = FastAPI()

    @app.get("/products/async")
    async def product_async():
        runs.append(1)
        async with engine.connect() as connection:
            return {"price": await connection.scalar(READ)}

    @app.get("/products")
    def product():
        runs.append(1)
        with engine.connect() as connection:
            return {"price": connection.scalar(READ)}

    return app


@pytest.fixture(params=[False, True], ids=["sync", "async"])
def is_async(request):
    return request.param


@pytest.fixture
def path(is_async):
    return "/products/async" if is_async else "/products"


@pytest.fixture
async def writer(postgres_database):
    engine = create_engine(postgres_database)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE product (price int)"))
        connection.execute(text("INSERT INTO product VALUES (0)"))
    yield engine
    engine.dispose()


@pytest.fixture
async def shops(valkey_server, postgres_database, writer, is_async):
    """Two applications as in two processes: each with its engine and its cache, in one Valkey."""
    name, made, engines = secrets.token_hex(4), [], []
    for _ in range(2):
        engine = create_async_engine(postgres_database) if is_async else create_engine(postgres_database)
        runs = []
        upshift = Upshift(
            make_app(engine, runs),
            engine=[engine, writer] if not made else engine,
            cache=Cache(valkey_server.url, name=name, timeout="5s"),
        )
        upshift.cache.responses("/products*", ttl="5m")
        made.append((upshift, runs))
        engines.append(engine)
    yield made
    for upshift, _ in made:
        upshift.close()
    for engine in engines:
        if is_async:
            await engine.dispose()
        else:
            engine.dispose()


def unused_port():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return listening.getsockname()[1]


def client(upshift):
    return AsyncClient(transport=ASGITransport(upshift), base_url="http://shop.example")


def write(engine):
    with engine.begin() as connection:
        connection.execute(text("UPDATE product SET price = price + 1"))


async def until_it_is_stored(shop, path):
    """Ask until an answer is stored: a new cache gives no stamps for its first second."""
    for _ in range(200):
        answer = await shop.get(path)
        if "age" in answer.headers:
            return answer
        await asyncio.sleep(0.05)
    raise TimeoutError("nothing was stored")


async def test_what_one_has_answered_another_gives(shops, writer, path):
    (one, runs), (other, other_runs) = shops
    async with client(one) as here, client(other) as there:
        first = await until_it_is_stored(here, path)
        second = await there.get(path)
        assert other_runs == []
        before = len(runs)
        assert second.json() == first.json() == {"price": 0}
        assert second.headers["etag"] == first.headers["etag"]
        assert (await there.get(path, headers={"if-none-match": second.headers["etag"]})).status_code == 304

        await asyncio.to_thread(write, writer)
        for shop in (there, here, there, here):
            assert (await shop.get(path)).json() == {"price": 1}
        assert len(runs) + len(other_runs) == before + 1


async def test_a_hit_does_not_hold_up_the_loop(shops, path):
    (one, _), _ = shops
    async with client(one) as here:
        await until_it_is_stored(here, path)
        turns = 0

        async def turn():
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        turning = asyncio.create_task(turn())
        await asyncio.sleep(0)
        before = turns
        assert "age" in (await here.get(path)).headers
        turning.cancel()

    assert turns > before  # it waited for Valkey while others went on


async def test_without_it_the_application_answers(writer):
    runs = []
    upshift = Upshift(
        make_app(writer, runs), engine=writer, cache=Cache(f"redis://127.0.0.1:{unused_port()}")
    )
    upshift.cache.responses("/products*")
    try:
        async with client(upshift) as shop:
            for _ in range(5):
                assert (await shop.get("/products")).json() == {"price": 0}
    finally:
        upshift.close()
    assert len(runs) == 5
    assert upshift.cache.responses.faults == 0


async def test_of_all_who_miss_one_makes_the_answer(shops, writer, path):
    (one, runs), _ = shops
    async with client(one) as here:
        await until_it_is_stored(here, path)
        await asyncio.to_thread(write, writer)
        before = len(runs)
        answers = await asyncio.gather(*(here.get(path) for _ in range(50)))

    assert {each.json()["price"] for each in answers} == {1}
    assert len(runs) == before + 1


async def test_what_wrote_after_its_answer_is_taken_back_from_all(valkey_server, writer):
    app = FastAPI()

    @app.get("/products")
    def product(tasks: BackgroundTasks):
        tasks.add_task(write, writer)
        with writer.connect() as connection:
            connection.scalar(text("SELECT 1"))
        return "visited"

    name = secrets.token_hex(4)
    upshift = Upshift(app, engine=writer, cache=Cache(valkey_server.url, name=name, timeout="5s"))
    upshift.cache.responses("/products", tags=["visits"])
    statistics = upshift.cache.statistics
    async with client(upshift) as shop:
        for _ in range(200):
            assert "age" not in (await shop.get("/products")).headers
            if "the request writes" in statistics()["/products"].refused:
                break
            await asyncio.sleep(0.05)
        assert "age" not in (await shop.get("/products")).headers
    with Redis.from_url(valkey_server.url) as redis:
        assert list(redis.scan_iter(f"{{upshift:{name}}}:e:*")) == []
    upshift.close()
