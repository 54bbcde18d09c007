"""Stored responses while their Redis hangs: who asks waits for it once, and gets an answer."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import time

from httpx import ASGITransport, AsyncClient
from redis import Redis
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from tests.unit.cache.redis.conftest import open_at_once
from upshift import Cache
from upshift.testing.servers import valkey


async def test_a_redis_that_hangs_is_waited_for_once_a_request_and_three_times_in_all():
    runs = []

    async def page(_):
        runs.append(1)
        return PlainTextResponse("mapo tofu")

    with valkey() as server, Redis.from_url(server.url) as client:
        cache = Cache(server.url, name=secrets.token_hex(4))
        cache.responses("/*")
        app = cache.responses.around(Starlette(routes=[Route("/menu", page)]))
        remote = cache._shared._shared.remote
        async with AsyncClient(transport=ASGITransport(app), base_url="http://shop.example") as shop:
            open_at_once(cache, client)
            await shop.get("/menu")
            await shop.get("/menu")
            assert runs == [1]
            remote.heart.stop()
            await asyncio.sleep(0.3)
            remote.circuit._good_until = time.monotonic() + 600  # as if a heartbeat had passed just now
            os.kill(server.pid, signal.SIGSTOP)
            for failures in (1, 2, 3, 3, 3):
                answer = await shop.get("/menu")
                assert (answer.status_code, answer.text) == (200, "mapo tofu")
                assert remote.circuit.failures == failures
            assert remote.circuit.is_open
            os.kill(server.pid, signal.SIGCONT)
        cache.close()
        await asyncio.sleep(0)
    assert len(runs) == 6
