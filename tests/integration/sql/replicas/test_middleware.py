"""A client that has written reads what it wrote, from whichever replica its next request comes to."""

from __future__ import annotations

import asyncio
import threading
import time

import httpx
import pytest
import sqlalchemy as sa
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.responses import JSONResponse
from starlette.routing import Route

from upshift.errors import SettingsError
from upshift.settings import ReplicaSettings
from upshift.sql.replicas.carriers import COOKIE, HEADER, RedisCarrier, SignedCarrier
from upshift.sql.replicas.middleware import ReadYourWrites, read_your_writes
from upshift.sql.replicas.tokens import Tokens

from .conftest import Cluster, Item, NewReplicas, dispose, run, wait_for

SECRET = "a secret that all workers share"
WHERE = sa.select(sa.func.pg_is_in_recovery(), Item.name).where(Item.id == 20)


def application(replicas) -> Starlette:
    def session():
        return AsyncSession(sync_session_class=replicas.session_class)

    async def read(request):
        async with session() as reading:
            from_replica, name = (await reading.execute(WHERE)).one()
        return JSONResponse({"from_replica": from_replica, "name": name})

    async def rename(request):
        async with session() as writing:
            item = await writing.get(Item, 20)
            item.name = request.query_params["name"]
            await writing.commit()
        return JSONResponse({})

    async def rename_late(request):
        writing = session()
        item = await writing.get(Item, 20)
        item.name = request.query_params["name"]
        await writing.flush()

        async def commit():
            await writing.commit()
            await writing.close()

        return JSONResponse({}, background=BackgroundTask(commit))

    async def rename_afterwards(request):
        async def write():
            async with session() as writing:
                (await writing.get(Item, 20)).name = "afterwards"
                await writing.commit()

        return JSONResponse({}, background=BackgroundTask(write))

    async def read_and_fail_to_write(request):
        async with session() as writing:
            (await writing.get(Item, 20)).name = "never"
            await writing.flush()
            await writing.rollback()
        return JSONResponse({})

    return Starlette(
        routes=[
            Route("/item", read),
            Route("/item", rename, methods=["POST"]),
            Route("/late", rename_late, methods=["POST"]),
            Route("/afterwards", rename_afterwards, methods=["POST"]),
            Route("/rollback", read_and_fail_to_write, methods=["POST"]),
            Route("/decide", read, methods=["PUT"]),
        ]
    )


@pytest.fixture
async def shop(cluster: Cluster, new_replicas: NewReplicas):
    cluster.caught_up()
    servers = (cluster.primary, cluster.near)
    replicas = await asyncio.to_thread(
        new_replicas, *servers, driver="asyncpg", is_async=True, longest_lag_seconds=30
    )
    yield replicas
    await dispose(replicas)


COOKIES_OF_CLIENTS = SignedCarrier(Tokens([SECRET]), "cookie")


def client_of(app) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test")


@pytest.fixture
async def client(shop):
    async with client_of(ReadYourWrites(application(shop), shop, COOKIES_OF_CLIENTS)) as client:
        yield client


async def test_who_has_not_written_reads_from_a_replica(client):
    assert (await client.get("/item")).json()["from_replica"]


async def test_who_has_written_reads_what_was_written_while_the_replica_lags(cluster, client):
    with cluster.paused(cluster.near):
        await client.post("/item?name=written")
        assert (await client.get("/item")).json() == {"from_replica": False, "name": "written"}
    cluster.caught_up()


async def test_a_replica_that_has_caught_up_is_read_again(cluster, client, shop):
    answer = await client.post("/item?name=again")
    assert COOKIE in answer.cookies
    cluster.caught_up()

    async def is_from_replica():
        answer = (await client.get("/item")).json()
        assert answer["name"] == "again"
        return answer["from_replica"]

    deadline = time.monotonic() + 20
    while not await is_from_replica():
        assert time.monotonic() < deadline, "it reads from the primary for ever"
        await asyncio.sleep(0.01)


async def test_requests_that_change_something_decide_on_what_the_primary_has(client):
    assert not (await client.put("/decide")).json()["from_replica"]


async def test_a_request_that_only_reads_gets_no_token(client):
    assert "set-cookie" not in (await client.get("/item")).headers
    assert "set-cookie" not in (await client.put("/decide")).headers


async def test_a_write_that_was_rolled_back_gets_no_token(client):
    assert "set-cookie" not in (await client.post("/rollback")).headers


async def test_a_transaction_that_is_open_at_the_response_sends_its_client_to_the_primary(cluster, client):
    with cluster.paused(cluster.near):
        await client.post("/late?name=late")
        assert (await client.get("/item")).json() == {"from_replica": False, "name": "late"}


async def test_a_write_after_the_response_is_counted(shop):
    middleware = ReadYourWrites(application(shop), shop, COOKIES_OF_CLIENTS)
    async with client_of(middleware) as client:
        await client.post("/afterwards")
    assert shop.late_writes == 1


async def test_api_clients_carry_a_header(cluster, shop):
    app = ReadYourWrites(application(shop), shop, SignedCarrier(Tokens([SECRET]), "header"))
    async with client_of(app) as client:
        with cluster.paused(cluster.near):
            token = (await client.post("/item?name=header")).headers[HEADER]
            assert (await client.get("/item")).json()["from_replica"]
            answer = await client.get("/item", headers={HEADER: token})
            assert answer.json() == {"from_replica": False, "name": "header"}


FORGED = Tokens(["another secret of them"]).make((1, 1 << 60), 60)
COOKIES = {
    "empty": "",
    "short": "x",
    "garbage": "x" * 71,
    "nul": "\x00",
    "not ASCII": "é",
    "huge": "x" * 100_000,
    "separators": "=;=;=",
    "forged": FORGED,
}


@pytest.mark.parametrize("cookie", COOKIES.values(), ids=COOKIES)
async def test_a_hostile_token_counts_as_none(client, cookie):
    header = f"{COOKIE}={cookie}".encode("latin-1")
    answer = await client.get("/item", headers=[(b"cookie", header)])
    assert answer.status_code == 200
    assert answer.json()["from_replica"]


async def test_without_the_primary_the_response_is_sent_all_the_same(cluster, shop):
    async def app(scope, receive, send):
        visit = shop.visit_now
        visit.begin_writing()
        visit.end_writing(1.0)
        await JSONResponse({})(scope, receive, send)

    middleware = ReadYourWrites(app, shop, COOKIES_OF_CLIENTS)

    async def no_position():
        await asyncio.sleep(60)

    shop.position_async = no_position
    async with client_of(middleware) as client:
        answer = await client.post("/item")
    assert answer.status_code == 200
    assert COOKIE in answer.cookies
    assert shop.faults == 1


async def test_secure_only_where_the_client_came_by_https(shop):
    app = ReadYourWrites(application(shop), shop, COOKIES_OF_CLIENTS)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="https://test") as client:
        secure = (await client.post("/item?name=a")).headers["set-cookie"]
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        plain = (await client.post("/item?name=a")).headers["set-cookie"]
    assert secure.endswith("; HttpOnly; SameSite=Lax; Secure")
    assert "Secure" not in plain


def test_a_token_has_to_outlive_the_greatest_lag(cluster, new_replicas):
    replicas = new_replicas(cluster.primary, cluster.near, longest_lag_seconds=59.0)
    with pytest.raises(SettingsError, match="UPSHIFT_REPLICA_TOKEN_SECONDS"):
        read_your_writes(replicas, ReplicaSettings(replica_secrets=(SECRET,)))


def test_a_secret_is_needed(cluster, new_replicas):
    replicas = new_replicas(cluster.primary, cluster.near)
    with pytest.raises(SettingsError, match="UPSHIFT_REPLICA_SECRETS"):
        read_your_writes(replicas, ReplicaSettings())
    assert read_your_writes(replicas, ReplicaSettings(replica_carrier="off")) is None


async def test_a_client_never_reads_less_than_it_wrote(cluster, shop):
    """It counts up, and reads its count back at once, while the replica is always a little behind."""
    app = ReadYourWrites(application(shop), shop, COOKIES_OF_CLIENTS)
    stop = threading.Event()

    def flicker():
        while not stop.is_set():
            with cluster.paused(cluster.near):
                stop.wait(0.05)
            stop.wait(0.02)

    flickering = threading.Thread(target=flicker)
    flickering.start()
    try:
        async with client_of(app) as client:
            for number in range(60):
                await client.post(f"/item?name=count-{number}")
                assert (await client.get("/item")).json()["name"] == f"count-{number}"
    finally:
        stop.set()
        flickering.join()
    wait_for(lambda: run(cluster.near, "SELECT NOT pg_is_wal_replay_paused()")[0][0])


async def test_with_redis_a_write_after_the_response_is_seen_too(cluster, shop, valkey_server):
    def known(_scope):
        return f"known-{cluster.primary.pid}"

    async with Redis.from_url(valkey_server.url) as redis:
        app = ReadYourWrites(application(shop), shop, RedisCarrier(redis, known))
        async with client_of(app) as client:
            with cluster.paused(cluster.near):
                await client.post("/afterwards")
                assert (await client.get("/item")).json() == {"from_replica": False, "name": "afterwards"}
    assert shop.late_writes == 0
