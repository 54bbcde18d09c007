"""Checks of a real PostgreSQL and a real Valkey: there, gone, exhausted and hanging."""

import asyncio
import os
import signal
import socket
import threading
from contextlib import contextmanager

import pytest
import redis
import redis.asyncio
from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import create_async_engine

from upshift.settings import HealthSettings
from upshift.telemetry.health import Health, engine_check, redis_check
from upshift.testing.servers import valkey


@contextmanager
def stopped(pid):
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@contextmanager
def silent_server():
    """What takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


def watch(check, seconds):
    health = Health(HealthSettings(health_cache_seconds=0.0))
    health.check("it", check, timeout=seconds)

    async def outcome():
        result = (await health.report()).results[0]
        return result.status, result.output

    return outcome


async def eventually_passes(outcome):
    deadline = asyncio.get_running_loop().time() + 30
    while (told := await outcome())[0] != "pass":
        assert asyncio.get_running_loop().time() < deadline, told
        await asyncio.sleep(0.05)


@pytest.fixture(params=["psycopg", "psycopg, async", "asyncpg"])
def make_engine(request, postgres_server):
    """Make engines for one URL or another, by one driver."""
    driver, *is_async = request.param.split(", ")
    create = create_async_engine if is_async or driver == "asyncpg" else create_engine
    made = []

    def make(url=None):
        url = url or postgres_server.url("postgres", driver=driver)
        made.append(create(url.replace("DRIVER", driver), pool_size=1, max_overflow=0))
        return made[-1]

    yield make
    for engine in made:
        getattr(engine, "sync_engine", engine).dispose(close=False)


async def dispose(engine):
    disposed = engine.dispose()
    if disposed is not None:
        await disposed


async def test_a_postgresql_that_answers_passes_again_and_again(make_engine):
    engine = make_engine()
    outcome = watch(engine_check(engine), 30)
    assert [await outcome() for _ in range(3)] == [("pass", "")] * 3
    await dispose(engine)


async def test_an_exhausted_pool_fails_by_the_check_s_timeout_and_then_passes(make_engine):
    engine = make_engine()
    outcome = watch(engine_check(engine), 0.2)
    connection = engine.connect()
    if hasattr(connection, "start"):
        await connection.start()
    assert await outcome() == ("fail", "TimeoutError: no answer within 0.2 s")
    closed = connection.close()
    if closed is not None:
        await closed
    await eventually_passes(outcome)  # so no thread of the first check's is left with a connection
    await dispose(engine)


async def test_a_postgresql_that_hangs_fails_by_the_check_s_timeout(make_engine):
    with silent_server() as port:
        engine = make_engine(f"postgresql+DRIVER://shop:rosebud@127.0.0.1:{port}/shop")
        outcome = watch(engine_check(engine), 0.2)
        status, output = await outcome()
        assert (status, output) == ("fail", "TimeoutError: no answer within 0.2 s")
        (
            status,
            output,
        ) = await outcome()  # a thread is still at it; an async one begins anew, or is still leaving
        assert status == "fail"
        assert output.startswith("TimeoutError:")


async def test_a_postgresql_that_is_gone_fails_without_its_password(make_engine):
    outcome = watch(engine_check(make_engine("postgresql+DRIVER://shop:rosebud@127.0.0.1:1/shop")), 30)
    status, output = await outcome()
    assert status == "fail"
    assert "rosebud" not in output


CLIENTS = {
    "url": lambda url: url,
    "sync": redis.Redis.from_url,
    "async": redis.asyncio.Redis.from_url,
}


@pytest.fixture(params=CLIENTS)
def client_to(request):
    return CLIENTS[request.param]


async def close(client):
    if isinstance(client, redis.asyncio.Redis):
        await client.aclose()
    elif isinstance(client, redis.Redis):
        client.close()


async def test_a_valkey_is_checked_while_it_hangs_and_after(client_to):
    with valkey() as server:
        client = client_to(server.url)
        assert await watch(redis_check(client), 30)() == ("pass", "")
        outcome = watch(redis_check(client), 0.2)
        with stopped(server.pid):
            assert await outcome() == ("fail", "TimeoutError: no answer within 0.2 s")
            assert (await outcome())[0] == "fail"
        await eventually_passes(outcome)
        await close(client)


async def test_a_valkey_that_is_gone_fails(client_to):
    with valkey(listen="tcp") as server:
        client = client_to(server.url)
    status, output = await watch(redis_check(client), 30)()
    assert status == "fail"
    assert output.startswith("ConnectionError:")
    await close(client)


def test_a_url_is_checked_in_one_event_loop_after_the_other(valkey_server):
    outcome = watch(redis_check(valkey_server.url), 30)
    assert [asyncio.run(outcome()) for _ in range(3)] == [("pass", "")] * 3


async def test_a_database_that_hangs_costs_one_thread_however_often_it_is_asked():
    with silent_server() as port:
        engine = create_engine(
            f"postgresql+psycopg://shop@127.0.0.1:{port}/shop", connect_args={"connect_timeout": 60}
        )
        outcome = watch(engine_check(engine), 0.05)
        await outcome()
        before = threading.active_count()
        for _ in range(20):
            assert "still running since" in (await outcome())[1]
        assert threading.active_count() == before
