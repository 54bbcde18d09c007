from __future__ import annotations

import socket

import pytest
import redis
import redis.asyncio
from redis.backoff import NoBackoff
from redis.retry import Retry

from upshift.errors import ServerUnavailableError
from upshift.testing.servers import valkey
from upshift.testing.servers import valkey_server as module

NEVER = Retry(NoBackoff(), 0)


@pytest.fixture(scope="module", params=["socket", "tcp"])
def server(request):
    with valkey(listen=request.param, settings={"maxmemory": "16mb", "loglevel": "warning"}) as running:
        yield running


def test_redis_py_is_answered(server):
    with redis.Redis.from_url(server.url) as client:
        assert client.ping()


async def test_asyncio_redis_py_is_answered(server):
    async with redis.asyncio.Redis.from_url(server.url) as client:
        assert await client.ping()


def test_scripts_and_streams_work(server):
    with redis.Redis.from_url(server.url) as client:
        assert client.eval("return redis.call('XLEN', KEYS[1])", 1, "nothing") == 0


def test_settings_reach_the_server_and_nothing_is_saved_to_disk(server):
    with redis.Redis.from_url(server.url, decode_responses=True) as client:
        assert client.config_get("maxmemory") == {"maxmemory": str(16 * 1024 * 1024)}
        assert client.config_get("save") == {"save": ""}


def test_a_tcp_server_refuses_whoever_does_not_know_its_password():
    with valkey(listen="tcp") as server:
        port = int(server.url.rpartition(":")[2].removesuffix("/0"))
        with redis.Redis(port=port, retry=NEVER) as client, pytest.raises(redis.AuthenticationError):
            client.ping()


def test_a_refused_setting_is_told_with_the_servers_own_words():
    with pytest.raises(ServerUnavailableError, match="no-such"):
        valkey(settings={"no-such": "1"}).__enter__()


def test_another_port_is_tried_where_somebody_took_the_first(monkeypatch):
    free = module.free_port()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ports = iter([taken.getsockname()[1], free])
        monkeypatch.setattr(module, "free_port", lambda: next(ports))
        with valkey(listen="tcp") as server:
            assert f":{free}/" in server.url


def test_a_server_that_hangs_in_a_script_is_ended(traces_of):
    with valkey() as server:
        traces = traces_of(server.pid)
        client = redis.Redis.from_url(server.url, socket_timeout=0.1, retry=NEVER)
        with client, pytest.raises(redis.TimeoutError):
            client.eval("while true do end", 0)
    assert traces.left() == []
