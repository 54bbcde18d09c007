"""A cache in each form that a Redis comes in: protocols, ACL, TLS, Sentinel, Cluster, ready clients."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import ssl
import subprocess
import threading
import time

import pytest
from redis import Redis, RedisCluster, Sentinel
from redis.asyncio import Redis as AsyncRedis
from redis.crc import key_slot

from tests.unit.cache.redis.conftest import open_at_once, patient, wait_until
from upshift.cache import Cache
from upshift.testing.servers import valkey
from upshift.testing.servers.binaries import find_valkey
from upshift.testing.servers.supervision import free_port, new_directory, supervised

__all__ = ["patient"]
pytestmark = pytest.mark.usefixtures("patient")

ALLOWED = (
    "+hello +auth +select +info +time +eval +evalsha +get +set +mget +del +unlink +scan +pexpire +hget +hset"
    " +hdel +hexists +hmget +hgetall"
)
"""What `docs/cache.md` tells that the cache's user needs."""


def password_of(server):
    return server.url.partition(":")[2].partition("@")[0].removeprefix("//:")


def port_of(server):
    return int(server.url.rpartition(":")[2].partition("/")[0])


def shows_that_it_works(cache, client):
    """Load a value, have it served, from memory and from Redis, and end it."""
    open_at_once(cache, client)
    runs = []

    @cache.cached(namespace="f", tags=["t"])
    def function(number: int) -> int:
        runs.append(number)
        return number

    assert (function(1), function(1)) == (1, 1)
    cache._memory.clear()
    assert function(1) == 1
    assert runs == [1]
    cache.invalidate("t")
    assert function(1) == 1
    assert runs == [1, 1]
    asyncio.run(shows_that_it_works_async(cache))


async def shows_that_it_works_async(cache):
    runs = []

    @cache.cached(namespace="g", tags=["t"])
    async def function(number: int) -> int:
        runs.append(number)
        return number

    assert (await function(1), await function(1)) == (1, 1)
    await cache.aio.invalidate("t")
    assert await function(1) == 1
    assert runs == [1, 1]
    cache._shared._shared.remote._async_links.close()
    await asyncio.sleep(0)


@pytest.mark.parametrize("protocol", [2, 3])
def test_both_protocols(valkey_server, protocol):
    cache = Cache(f"{valkey_server.url}?protocol={protocol}", name=f"resp{protocol}")
    with Redis.from_url(valkey_server.url) as client:
        shows_that_it_works(cache, client)
    cache.close()


@pytest.mark.parametrize("protocol", [2, 3])
def test_a_user_that_may_do_what_is_needed_and_no_more(protocol):
    with valkey(listen="tcp") as server, Redis.from_url(server.url) as client:
        client.execute_command("ACL", "SETUSER", "shop", "on", ">secret", "~{upshift:*", *ALLOWED.split())
        cache = Cache(f"redis://shop:secret@127.0.0.1:{port_of(server)}/0?protocol={protocol}")
        shows_that_it_works(cache, client)
        cache.clear()
        cache.close()


def test_a_wrong_password_is_an_outage_and_no_error():
    with valkey(listen="tcp") as server:
        cache = Cache(f"redis://:wrong@127.0.0.1:{port_of(server)}/0")

        @cache.cached()
        def function() -> int:
            return 1

        assert function() == 1
        wait_until(lambda: "WRONGPASS" in cache._shared._shared.remote.circuit.reason)
        assert function() == 1
        cache.close()


def test_a_database_of_a_number(valkey_server):
    with Redis.from_url(valkey_server.url, db=3) as client:
        cache = Cache(f"{valkey_server.url}?db=3", name="numbered")
        shows_that_it_works(cache, client)
        assert client.keys("{upshift:numbered}:*")
        cache.close()


@pytest.mark.parametrize("make", [Redis, AsyncRedis])
def test_a_ready_client(make):
    with valkey(listen="tcp") as server:
        ready = make(host="127.0.0.1", port=port_of(server), password=password_of(server), db=2)
        cache = Cache(ready)
        with Redis(port=port_of(server), password=password_of(server), db=2) as numbered:
            shows_that_it_works(cache, numbered)
        cache.close()


@pytest.fixture
def certificate(tmp_path):
    program = shutil.which("openssl")
    if program is None:
        pytest.skip("there is no openssl to make a certificate with")
    subprocess.run(
        [program, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost", "-keyout", tmp_path / "key", "-out", tmp_path / "cert"],
        check=True,
        capture_output=True,
    )  # fmt: skip
    return tmp_path / "cert", tmp_path / "key"


@contextlib.contextmanager
def speaking_tls(path, certificate):
    """Stand before a server's unix socket and speak TLS, as the embedded one cannot."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificate)
    loop = asyncio.new_event_loop()

    async def copy(reader, writer):
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def answer(reader, writer):
        far_reader, far_writer = await asyncio.open_unix_connection(path)
        await asyncio.gather(copy(reader, far_writer), copy(far_reader, writer))

    server = loop.run_until_complete(asyncio.start_server(answer, "localhost", 0, ssl=context))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield server.sockets[0].getsockname()[1]
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    server.close()
    for task in asyncio.all_tasks(loop):
        task.cancel()
    loop.run_until_complete(asyncio.sleep(0.05))
    loop.close()


def test_tls(valkey_server, certificate):
    path = valkey_server.url.removeprefix("unix://")
    with speaking_tls(path, certificate) as port, Redis.from_url(valkey_server.url) as client:
        trusting = f"rediss://localhost:{port}/0?ssl_ca_certs={certificate[0]}"
        cache = Cache(trusting, name="tls")
        shows_that_it_works(cache, client)
        cache.close()

        unknown = Cache(f"rediss://localhost:{port}/0", name="tls")
        wait_until(lambda: "certificate verify failed" in unknown._shared._shared.remote.circuit.reason)
        unknown.close()


@contextlib.contextmanager
def sentinel(master, password):
    """Run a Sentinel that watches a master, on a free port."""
    directory, port = new_directory(), free_port()
    configuration = directory / "sentinel.conf"
    lines = [
        f"port {port}",
        "bind 127.0.0.1",
        f"dir {directory}",
        'logfile ""',
        "protected-mode no",
        f"sentinel monitor shop 127.0.0.1 {master} 1",
        f"sentinel auth-pass shop {password}",
        "sentinel down-after-milliseconds shop 300",
        "sentinel failover-timeout shop 2000",
    ]
    plan = {
        "caller": os.getpid(),
        "directory": str(directory),
        "owner": None,
        "trees": {},
        "files": {str(configuration): "\n".join(lines) + "\n"},
        "setup": [],
        "server": [str(find_valkey()), str(configuration), "--sentinel"],
        "ready": (f"{directory}/log", "Sentinel ID is"),
        "stop_signal": signal.SIGTERM,
        "after_kill": None,
    }
    with supervised(plan):
        yield port


def test_sentinel_and_a_failover():
    settings = {"repl-diskless-sync-delay": "0"}
    with contextlib.ExitStack() as stack:
        master = stack.enter_context(valkey(listen="tcp", settings=settings))
        password = password_of(master)
        replica = stack.enter_context(
            valkey(
                listen="tcp",
                settings={
                    **settings,
                    "replicaof": f"127.0.0.1 {port_of(master)}",
                    "masterauth": password,
                },
            )
        )
        heir = stack.enter_context(Redis.from_url(replica.url))
        heir.config_set("requirepass", password)
        heir = stack.enter_context(Redis(port=port_of(replica), password=password))
        wait_until(lambda: heir.info("replication")["master_link_status"] == "up")
        port = stack.enter_context(sentinel(port_of(master), password))
        told = stack.enter_context(Redis(port=port))
        wait_until(lambda: told.execute_command("SENTINEL", "REPLICAS", "shop"))

        cache = Cache(f"redis+sentinel://:{password}@127.0.0.1:{port}/shop")
        ready = Cache(Sentinel([("127.0.0.1", port)]).master_for("shop", password=password))
        client = stack.enter_context(Redis.from_url(master.url))
        shows_that_it_works(cache, client)
        runs = []

        @ready.cached(tags=["t"])
        def function(number: int) -> int:
            runs.append(number)
            return number

        open_at_once(ready, client)
        assert (function(1), function(1)) == (1, 1)
        assert runs == [1]
        wait_until(lambda: heir.dbsize() == client.dbsize())
        os.kill(master.pid, signal.SIGKILL)

        wait_until(lambda: heir.info("replication")["role"] == "master", 30)
        for each in (cache, ready):
            wait_until(each._shared._shared.remote.circuit.is_usable, 30)
        assert function(1) == 1
        assert runs == [1, 1]  # the fence is another
        cache.close()
        ready.close()


def test_cluster_and_a_slot_that_moves():
    settings = {"cluster-enabled": "yes", "cluster-node-timeout": "2000"}
    with contextlib.ExitStack() as stack:
        nodes, buses = [], [free_port() for _ in range(3)]
        for port in buses:  # the port of their bus is far above the other, and may be too high
            bus = {**settings, "cluster-port": str(port)}
            nodes.append(stack.enter_context(valkey(listen="tcp", settings=bus)))
        clients = [stack.enter_context(Redis.from_url(each.url)) for each in nodes]
        password = password_of(nodes[0])
        for client in clients:  # one for all, as in a cluster
            client.config_set("requirepass", password)
        clients = [stack.enter_context(Redis(port=port_of(each), password=password)) for each in nodes]
        bounds = [0, 5461, 10923, 16384]
        for number, client in enumerate(clients):
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", bounds[number], bounds[number + 1] - 1)
            client.execute_command("CLUSTER", "MEET", "127.0.0.1", port_of(nodes[0]), buses[0])
        wait_until(
            lambda: (
                all(each.cluster("info")["cluster_known_nodes"] == "3" for each in clients)
                and all(each.cluster("info")["cluster_state"] == "ok" for each in clients)
            ),
            30,
        )
        addresses = ",".join(f"127.0.0.1:{port_of(each)}" for each in nodes)
        cache = Cache(f"redis+cluster://:{password}@{addresses}")
        ready = Cache(
            stack.enter_context(RedisCluster(host="127.0.0.1", port=port_of(nodes[1]), password=password)),
        )
        slot = key_slot(b"{upshift:default}:fence")
        (home,) = (number for number in range(3) if bounds[number] <= slot < bounds[number + 1])
        shows_that_it_works(cache, clients[home])
        runs = []

        @ready.cached(tags=["t"])
        def function(number: int) -> int:
            runs.append(number)
            return number

        open_at_once(ready, clients[home])
        assert (function(1), function(1)) == (1, 1)
        assert runs == [1]

        other = (home + 1) % 3
        clients[home].flushall()
        ids = [each.execute_command("CLUSTER", "MYID").decode() for each in clients]
        clients[other].execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[home])
        clients[home].execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[other])
        for number in (other, home, 3 - home - other):
            clients[number].execute_command("CLUSTER", "SETSLOT", slot, "NODE", ids[other])
        wait_until(lambda: clients[other].exists("{upshift:default}:fence"), 30)
        shows_that_it_works(cache, clients[other])
        wait_until(ready._shared._shared.remote.circuit.is_usable)
        function(1)
        assert function(1) == 1
        cache.close()
        ready.close()


def test_a_port_that_speaks_something_else():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()

        def answer():
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with connection:
                        connection.recv(1_000)
                        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        threading.Thread(target=answer, daemon=True).start()
        cache = Cache(f"redis://127.0.0.1:{listener.getsockname()[1]}")

        @cache.cached()
        def function() -> int:
            return 1

        assert function() == 1
        time.sleep(0.1)
        assert function() == 1
        wait_until(lambda: cache._shared._shared.remote.circuit.failures > 1)
        cache.close()
        listener.shutdown(socket.SHUT_RDWR)
