"""Positions in Redis: for clients that the application knows, whichever of their requests comes first."""

from __future__ import annotations

import asyncio
import secrets
import time

import pytest
from redis.asyncio import Redis
from starlette.requests import Request

from upshift.sql.replicas.carriers import RedisCarrier
from upshift.sql.replicas.position import BEYOND, Position
from upshift.testing.servers import valkey


def scope_of(client: str | None) -> dict:
    headers = [] if client is None else [(b"x-client", client.encode())]
    return {"type": "http", "headers": headers}


def client_of(scope) -> str | None:
    return Request(scope).headers.get("x-client")


@pytest.fixture
async def carrier(valkey_server):
    async with Redis.from_url(valkey_server.url) as redis:
        yield RedisCarrier(redis, client_of, prefix=f"test:{secrets.token_hex(4)}:")


async def test_a_position_is_kept_for_its_client(carrier):
    assert await carrier.give(scope_of("ann"), None, Position(1, 255), 60)
    assert await carrier.take(scope_of("ann")) == Position(1, 255)
    assert await carrier.take(scope_of("bob")) is None


async def test_the_latest_position_stays_whichever_request_is_told_last(carrier):
    for position in (Position(1, 9), Position(1, 100), Position(1, 20), Position(2, 5), Position(1, 10**9)):
        await carrier.give(scope_of("ann"), None, position, 60)
    assert await carrier.take(scope_of("ann")) == Position(2, 5)


async def test_a_position_takes_the_place_of_the_primarys_own(carrier):
    await carrier.give(scope_of("ann"), None, Position(1, 5), 60)
    await carrier.give(scope_of("ann"), None, BEYOND, 60)
    assert await carrier.take(scope_of("ann")) == BEYOND
    await carrier.give(scope_of("ann"), None, Position(1, 7), 60)
    assert await carrier.take(scope_of("ann")) == Position(1, 7)


async def test_a_position_is_over_after_its_time(carrier):
    await carrier.give(scope_of("ann"), None, Position(1, 5), 0.05)
    await asyncio.sleep(0.1)
    assert await carrier.take(scope_of("ann")) is None


async def test_who_is_not_known_is_asked_of_nobody(carrier):
    assert not await carrier.give(scope_of(None), None, Position(1, 5), 60)
    assert await carrier.take(scope_of(None)) is None


async def test_redis_holds_nobodys_name(carrier):
    await carrier.give(scope_of("ann@example.org"), None, Position(1, 5), 60)
    assert not [key async for key in carrier._redis.scan_iter("*ann*")]


async def test_without_redis_known_clients_read_from_the_primary_at_once():
    with valkey() as server:
        redis = Redis.from_url(server.url)
        carrier = RedisCarrier(redis, client_of)
        await carrier.give(scope_of("ann"), None, Position(1, 5), 60)
    started = time.monotonic()
    assert await carrier.take(scope_of("ann")) == BEYOND
    assert await carrier.take(scope_of(None)) is None
    assert not await carrier.give(scope_of("ann"), None, Position(1, 6), 60)
    assert time.monotonic() - started < 5
    assert carrier.faults == 2
    await redis.aclose()


async def test_garbage_in_redis_is_no_error(carrier):
    await carrier._redis.set(carrier._key("ann"), b"garbage")
    assert await carrier.take(scope_of("ann")) == BEYOND
