"""Stored responses of real applications on real databases: each commit is in the next answer."""

from __future__ import annotations

import asyncio
import gzip
import json
import random
import threading
import time
import zlib

import pytest
from fastapi import BackgroundTasks, Depends, FastAPI
from fastapi.middleware.cors import CORSMiddleware
from httpx import ASGITransport, AsyncClient
from sqlalchemy import text
from starlette.middleware.base import BaseHTTPMiddleware

from upshift import Cache, Settings, Upshift
from upshift.settings import RecordSettings
from upshift.traffic import compression

from .responses_apps import MAKERS, READ, engines_of, fastapi_async, fastapi_sync, fill, write

EVERYTHING = Settings(record=RecordSettings(sample_rate=1.0))


@pytest.fixture(params=["postgresql", "sqlite"])
def url(request, tmp_path):
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'shop.db'}"
    return request.getfixturevalue("postgres_database")


@pytest.fixture
async def engines(url):
    engine, other = engines_of(url)
    fill(engine)
    yield engine, other
    await other.dispose()
    engine.dispose()


@pytest.fixture
def observed(engines):
    """Put Upshift and its cache around an application; taken out at the end."""
    made = []

    def observe(app, cache=None, **settings):
        upshift = Upshift(app, engine=engines, cache=cache or Cache(), settings=EVERYTHING, **settings)
        made.append(upshift)
        return upshift

    yield observe
    for upshift in made:
        upshift.close()


def client(app):
    return AsyncClient(transport=ASGITransport(app), base_url="http://shop.example")


@pytest.mark.parametrize("make", MAKERS)
async def test_each_commit_is_in_the_next_answer(engines, observed, make):
    upshift = observed(make(*engines))
    upshift.cache.responses("/products*", ttl="5m")
    async with client(upshift) as shop:
        for price in range(10):
            answers = [await shop.get("/products/1") for _ in range(4)]
            assert [each.json()["price"] for each in answers] == [price] * 4
            assert write(engines[0]) == price + 1

    counted = upshift.cache.statistics()["/products*"]
    assert (counted.misses, counted.hits, counted.stale_prevented) == (10, 30, 9)


@pytest.mark.parametrize("make", [fastapi_sync, fastapi_async])
async def test_no_answer_is_older_than_the_last_commit_before_the_request(engines, observed, make):
    upshift = observed(make(*engines))
    upshift.cache.responses("/products*", ttl="5m")
    acknowledged, answers, is_over = [0], [0], threading.Event()

    def keep_writing():
        for _ in range(60):
            acknowledged[0] = write(engines[0])
            wanted = answers[0] + random.randrange(40)
            while answers[0] < wanted:
                time.sleep(0.0005)
        is_over.set()

    older = []

    async def keep_asking(shop):
        while not is_over.is_set():
            before = acknowledged[0]
            price = (await shop.get("/products/1")).json()["price"]
            answers[0] += 1
            if price < before:
                older.append((price, before))

    writer = threading.Thread(target=keep_writing)
    writer.start()
    async with client(upshift) as shop:
        await asyncio.gather(*(keep_asking(shop) for _ in range(8)))
    await asyncio.to_thread(writer.join)

    counted = upshift.cache.statistics()["/products*"]
    assert not older
    assert acknowledged[0] == 60
    assert counted.hits + counted.joined > 60


@pytest.mark.parametrize("is_async", [False, True])
async def test_a_request_that_writes_is_not_stored(engines, observed, is_async):
    engine, other = engines
    app = FastAPI()

    @app.get("/products/{number}")
    def visit(number: int):
        write(engine, number)
        return {"price": 0}

    @app.get("/products/async/{number}")
    async def visit_async(number: int):
        async with other.begin() as connection:
            await connection.execute(text("UPDATE product SET price = price + 1"))
        return {"price": 0}

    upshift = observed(app)
    upshift.cache.responses("/products*")
    path = "/products/async/1" if is_async else "/products/1"
    async with client(upshift) as shop:
        for _ in range(3):
            assert "age" not in (await shop.get(path)).headers

    assert write(engine) == 4
    assert upshift.cache.statistics()["/products*"].refused == {"its transaction writes": 3}


async def test_nor_is_one_that_writes_when_its_dependency_ends(engines, observed):
    engine, _ = engines
    app = FastAPI()

    def visits():
        with engine.begin() as connection:
            yield connection
            connection.execute(text("INSERT INTO audit VALUES ('visited')"))

    @app.get("/products/{number}")
    def product(number: int, connection=Depends(visits)):
        return {"price": connection.scalar(READ, {"id": number})}

    upshift = observed(app)
    upshift.cache.responses("/products*")
    async with client(upshift) as shop:
        for _ in range(3):
            await shop.get("/products/1")

    with engine.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM audit")) == 3


@pytest.mark.parametrize("does_write", [False, True])
async def test_what_a_background_task_reads_is_no_part_of_the_answer(engines, observed, does_write):
    engine, _ = engines
    app = FastAPI()

    def audit():
        with engine.begin() as connection:
            connection.scalar(text("SELECT count(*) FROM audit"))
            if does_write:
                connection.execute(text("INSERT INTO audit VALUES ('visited')"))

    @app.get("/products/{number}")
    def product(number: int, tasks: BackgroundTasks):
        tasks.add_task(audit)
        with engine.connect() as connection:
            return {"price": connection.scalar(READ, {"id": number})}

    upshift = observed(app)
    upshift.cache.responses("/products*")
    async with client(upshift) as shop:
        await shop.get("/products/1")
        with engine.begin() as connection:
            connection.execute(text("INSERT INTO audit VALUES ('something else')"))
        answer = await shop.get("/products/1")

    assert ("age" in answer.headers) is not does_write
    if does_write:  # whoever is given a stored answer would not be audited
        with engine.connect() as connection:
            assert connection.scalar(text("SELECT count(*) FROM audit")) == 3


async def test_a_hit_does_not_compress_again(engines, observed, monkeypatch):
    app = FastAPI()
    compressions, compress = [], zlib.compressobj

    def counted(*arguments, **named):
        compressions.append(1)
        return compress(*arguments, **named)

    @app.get("/products")
    async def products():
        async with engines[1].connect() as connection:
            return [{"price": await connection.scalar(READ, {"id": 1})}] * 500

    monkeypatch.setattr(compression.zlib, "compressobj", counted)
    upshift = observed(app, compression=True)
    upshift.cache.responses("/products")
    answers = {}
    async with client(upshift) as shop:
        for coding in ("gzip", "identity", "gzip", "identity", "gzip", "identity"):
            answers.setdefault(coding, []).append(
                await shop.get("/products", headers={"accept-encoding": coding})
            )

    gzipped, plain = answers["gzip"][-1], answers["identity"][-1]
    assert len(compressions) == 1
    assert gzipped.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in plain.headers
    assert gzipped.json() == plain.json()
    assert gzipped.headers["etag"] != plain.headers["etag"]
    assert gzipped.headers["vary"] == plain.headers["vary"] == "Accept-Encoding"
    assert int(gzipped.headers["content-length"]) < int(plain.headers["content-length"]) / 10


async def test_records_and_metrics_tell_of_hits_under_their_route(engines, observed):
    upshift = observed(fastapi_async(*engines), server_timing="always")
    upshift.cache.responses("/products*")
    async with client(upshift) as shop:
        ids = {(await shop.get("/products/1")).headers["x-request-id"] for _ in range(2)}
        tag = (await shop.get("/products/1")).headers["etag"]
        known = await shop.get("/products/1", headers={"if-none-match": tag})
        ids |= {known.headers["x-request-id"], (await shop.head("/products/1")).headers["x-request-id"]}
        page = (await shop.get("/metrics")).text

    records = [each for each in upshift.observation().records if each.path == "/products/1"]
    assert len(ids) == 4
    assert {each.request_id for each in records} >= ids
    assert [each.operation for each in records] == ["GET /products/{number}"] * 4 + [
        "HEAD /products/{number}"
    ]
    assert [each.cache_hits for each in records][-3:] == [1, 1, 1]
    assert [each.status for each in records] == [200, 200, 200, 304, 200]
    assert [len(each.statements) for each in records][-3:] == [0, 0, 0]
    assert records[-1].cache_seconds > 0
    assert "cache;dur=" in known.headers["server-timing"]
    assert 'http_route="/products/{number}"' in page


async def test_middleware_that_streams_everything_is_no_hindrance(engines, observed):
    app = fastapi_sync(*engines)
    app.add_middleware(BaseHTTPMiddleware, dispatch=lambda request, call_next: call_next(request))
    upshift = observed(app)
    upshift.cache.responses("/products*")
    async with client(upshift) as shop:
        answers = [await shop.get("/products/1") for _ in range(3)]
        write(engines[0])
        answers.append(await shop.get("/products/1"))

    assert "age" in answers[2].headers
    assert [each.json()["price"] for each in answers] == [0, 0, 0, 1]


async def test_what_was_stored_without_an_origin_is_not_given_to_one(engines, observed):
    app = fastapi_sync(*engines)
    app.add_middleware(CORSMiddleware, allow_origins=["*"])
    upshift = observed(app)
    upshift.cache.responses("/products*")
    async with client(upshift) as shop:
        for _ in range(3):
            await shop.get("/products/1")
        for _ in range(3):
            answer = await shop.get("/products/1", headers={"origin": "https://app.example"})
            assert answer.headers["access-control-allow-origin"] == "*"


async def test_two_in_one_process_see_each_others_writes_and_share_no_answers(engines, observed):
    caches = [Cache(), Cache()]
    shops = [observed(make(*engines), cache) for make, cache in zip(MAKERS[:2], caches, strict=True)]
    for each in shops:
        each.cache.responses("/products*")
    async with client(shops[0]) as one, client(shops[1]) as other:
        for price in range(3):
            for shop in (one, other, one, other, one, other):
                assert (await shop.get("/products/1")).json()["price"] == price
            write(engines[0])
        shops[0].close()
        for price in range(3, 6):  # the other goes on
            for shop in (one, other, other):
                assert (await shop.get("/products/1")).json()["price"] == price
            write(engines[0])

    assert all(each.statistics()["/products*"].hits >= 5 for each in caches)


async def test_one_cache_of_two_applications_keeps_them_apart(engines, observed):
    cache = Cache()
    cache.responses("/products*")
    other = FastAPI()

    @other.get("/products/{number}")
    def product(number: int):
        return "another"

    shops = [observed(fastapi_sync(*engines), cache), observed(other, cache)]
    async with client(shops[0]) as one, client(shops[1]) as another:
        for _ in range(3):
            assert (await one.get("/products/1")).json() == {"price": 0}
            assert (await another.get("/products/1")).json() == "another"


async def test_compressed_answers_are_of_the_encoding_that_the_client_reads(engines, observed):
    app = FastAPI()

    @app.get("/products")
    def products():
        return ["cardamom"] * 1_000

    upshift = observed(app, compression=True)
    upshift.cache.responses("/products")
    accepted = ["gzip", "", "gzip;q=0", "identity;q=0, gzip", "br", "GZIP", "gzip, " * 100]
    async with client(upshift) as shop:
        for _ in range(2):
            for each in accepted:
                request = shop.build_request("GET", "/products", headers={"accept-encoding": each})
                answer = await shop.send(request, stream=True)
                raw = b"".join([piece async for piece in answer.aiter_raw()])
                is_gzip = answer.headers.get("content-encoding") == "gzip"
                assert json.loads(gzip.decompress(raw) if is_gzip else raw) == ["cardamom"] * 1_000
                assert is_gzip is (each in {"gzip", "identity;q=0, gzip", "GZIP", "gzip, " * 100})
