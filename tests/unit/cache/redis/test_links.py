"""Connections to servers that answer slowly, in part, wrongly, or not at all."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time

import pytest

from upshift.cache.redis.async_link import AsyncLink, AsyncLinks
from upshift.cache.redis.links import SyncLinks
from upshift.cache.redis.servers import finder_of
from upshift.cache.redis.wire import Command, Script, Unreachable

PING = Command(("PING",))


def join(run):
    return PING


@pytest.fixture
def serve():
    """Start servers that do what they are told with each connection, in a thread for each."""
    listeners = []

    def start(answer):
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)

        def talk(connection):
            with connection, contextlib.suppress(OSError):
                answer(connection)

        def accept():
            with contextlib.suppress(OSError):
                while True:
                    threading.Thread(target=talk, args=(listener.accept()[0],), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        return finder_of(f"redis://127.0.0.1:{listener.getsockname()[1]}?protocol=2", b"key")

    yield start
    for each in listeners:
        each.shutdown(socket.SHUT_RDWR)
        each.close()


def silent(connection):
    while connection.recv(1_000):
        pass


def closing(connection):
    connection.recv(1_000)


def garbage(connection):
    while connection.recv(1_000):
        connection.sendall(b"<html>\r\n")


def in_part(connection):
    while connection.recv(1_000):
        connection.sendall(b"$1000\r\nabc")


def dripping(connection):
    connection.recv(1_000)
    for byte in b"$10000\r\n" + bytes(10_000):
        connection.sendall(bytes([byte]))
        time.sleep(0.01)


def refusing(connection):
    while connection.recv(1_000):
        connection.sendall(b"-LOADING Redis is loading the dataset in memory\r\n" * 2)


TROUBLES = [silent, closing, garbage, in_part, dripping, refusing]


@pytest.mark.parametrize("trouble", TROUBLES)
def test_a_thread_gives_up_in_time(serve, trouble):
    links = SyncLinks(serve(trouble), join, 0.1)
    began = time.monotonic()

    with pytest.raises(Unreachable):
        links.ask([PING])
    assert time.monotonic() - began < 5
    links.close()


@pytest.mark.parametrize("trouble", TROUBLES)
async def test_a_task_gives_up_in_time_and_so_do_those_beside_it(serve, trouble):
    links = AsyncLinks(serve(trouble), join, 0.1)
    began = time.monotonic()

    answers = await asyncio.gather(*(links.ask([PING]) for _ in range(50)), return_exceptions=True)
    assert all(isinstance(each, Unreachable) for each in answers)
    assert time.monotonic() - began < 5
    links.close()
    await asyncio.sleep(0)


async def test_a_loop_that_is_busy_is_not_taken_for_a_server_that_hangs(valkey_server):
    links = AsyncLinks(finder_of(valkey_server.url, b"key"), join, 0.2)
    await links.ask([PING])
    asked = asyncio.create_task(links.ask([PING]))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    time.sleep(0.5)  # noqa: ASYNC251 - the loop is busy

    assert await asked == [b"PONG"]
    links.close()
    await asyncio.sleep(0)


async def test_what_is_asked_in_one_turn_is_sent_in_one_piece(valkey_server):
    sent = []
    loop = asyncio.get_running_loop()
    link = AsyncLink(loop, 5.0)
    await loop.create_unix_connection(lambda: link, valkey_server.url.removeprefix("unix://"))
    write = link._transport.write

    class Transport:
        def write(self, data):
            sent.append(data)
            write(data)

        abort = link._transport.abort

    link._transport = Transport()
    answers = await asyncio.gather(*(link.ask(Command(("ECHO", each)).packed()) for each in range(100)))

    assert answers == [str(each).encode() for each in range(100)]
    assert len(sent) == 1
    link.close()
    await asyncio.sleep(0)


async def test_one_who_is_cancelled_takes_nobodys_answer(valkey_server):
    links = AsyncLinks(finder_of(valkey_server.url, b"key"), join, 5.0)
    await links.ask([PING])
    tasks = [asyncio.create_task(links.ask([Command(("ECHO", each))])) for each in range(20)]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()

    assert await asyncio.gather(*tasks[1::2]) == [[str(each).encode()] for each in range(1, 20, 2)]
    links.close()
    await asyncio.sleep(0)


async def test_a_script_that_was_forgotten_is_sent_again(valkey_server, client):
    asynchronous = AsyncLinks(finder_of(valkey_server.url, b"key"), join, 5.0)
    synchronous = SyncLinks(finder_of(valkey_server.url, b"key"), join, 5.0)
    command = Script("return {KEYS[1], ARGV[1]}").call([b"key"], b"argument")
    for _ in range(2):
        client.script_flush()
        assert await asynchronous.ask([PING, command, PING]) == [b"PONG", [b"key", b"argument"], b"PONG"]
        client.script_flush()
        assert synchronous.ask([command, PING]) == [[b"key", b"argument"], b"PONG"]
    asynchronous.close()
    synchronous.close()
    await asyncio.sleep(0)


def test_a_connection_that_the_server_has_closed_is_replaced(valkey_server, client):
    links = SyncLinks(finder_of(valkey_server.url, b"key"), join, 5.0)
    links.ask([PING])
    client.client_kill_filter(_type="normal", skipme=True)

    assert links.ask([PING]) == [b"PONG"]
    links.close()


def test_many_threads_have_connections_of_their_own(valkey_server):
    links = SyncLinks(finder_of(valkey_server.url, b"key"), join, 5.0)
    wrong = []

    def ask(number):
        answers = [links.ask([Command(("ECHO", number))]) for _ in range(50)]
        wrong.extend(each for each in answers if each != [str(number).encode()])

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()

    assert wrong == []
    links.close()


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("redis://shop:secret@host/3", "host:6379 shop secret 3 3 plain"),
        ("redis://host:7000?protocol=2", "host:7000   0 2 plain"),
        ("rediss://:secret@host", "host:6379  secret 0 3 tls"),
        ("unix:///run/redis.sock?db=1", "/run/redis.sock   1 3 plain"),
        ("unix://shop:secret@/run/redis.sock", "/run/redis.sock shop secret 0 3 plain"),
        ("redis://[::1]:7000/0", "::1:7000   0 3 plain"),
    ],
)
def test_a_url_says_where_the_server_is_and_how_to_talk_to_it(url, told):
    server = finder_of(url, b"key").find(1.0)
    kind = "plain" if server.tls is None else "tls"

    said = f"{server} {server.username} {server.password} {server.database} {server.protocol} {kind}"
    assert said == told


def test_a_password_is_in_no_message(serve):
    links = SyncLinks(finder_of("redis://shop:secret@127.0.0.1:1/0", b"key"), join, 0.1)

    with pytest.raises(Unreachable) as caught:
        links.ask([PING])
    assert "secret" not in str(caught.value)
