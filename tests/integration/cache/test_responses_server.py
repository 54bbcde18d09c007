"""Stored responses through a real server: what stands on the wire, and clients that leave half-way."""

from __future__ import annotations

import asyncio
import socket
import threading
import time

import pytest
import uvicorn
from fastapi import FastAPI

from upshift import Cache, Upshift


@pytest.fixture(params=["h11", "httptools"])
def shop(request):
    """An address, and the times when the application was asked."""
    asked = []
    app = FastAPI()

    @app.get("/slow")
    async def slow():
        asked.append(time.monotonic())
        await asyncio.sleep(0.3)
        return {"goods": "cardamom " * 400}

    upshift = Upshift(app, cache=Cache(), compression=True)
    upshift.cache.responses("/slow", ttl="5m")
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", http=request.param, access_log=False))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(0.01)
    yield listening.getsockname(), asked
    server.should_exit = True
    thread.join()
    upshift.close()
    listening.close()


def connected(address, request):
    connection = socket.create_connection(address, timeout=10)
    connection.sendall(request)
    return connection


def asking(method=b"GET", *headers):
    lines = (method + b" /slow HTTP/1.1", b"Host: shop.example", *headers, b"Connection: close", b"", b"")
    return b"\r\n".join(lines)


def read(connection):
    with connection:
        received = b""
        while piece := connection.recv(65_536):
            received += piece
    head, _, body = received.partition(b"\r\n\r\n")
    status, *fields = head.split(b"\r\n")
    pairs = (each.split(b": ", 1) for each in fields)
    return int(status.split()[1]), {name.lower(): value for name, value in pairs}, body


def test_a_client_that_leaves_leaves_the_answer_to_the_others(shop):
    address, asked = shop
    leaving = connected(address, asking())
    while not asked:
        time.sleep(0.005)
    waiting = [connected(address, asking()) for _ in range(5)]
    leaving.close()

    answers = [read(each) for each in waiting]

    assert [status for status, _, _ in answers] == [200] * 5
    assert len({body for _, _, body in answers}) == 1
    assert len(asked) == 1


def test_a_client_that_waits_and_leaves_takes_nobody_along(shop):
    address, asked = shop
    first = connected(address, asking())
    while not asked:
        time.sleep(0.005)
    for _ in range(5):
        connected(address, asking()).close()

    assert read(first)[0] == 200
    assert read(connected(address, asking()))[1][b"age"] == b"0"
    assert len(asked) == 1


def test_what_has_no_body_has_none_on_the_wire(shop):
    address, asked = shop
    _, fields, body = read(connected(address, asking()))
    tag = fields[b"etag"]

    head = read(connected(address, asking(b"HEAD")))
    known = read(connected(address, asking(b"GET", b"If-None-Match: " + tag)))

    assert (head[0], head[2], int(head[1][b"content-length"])) == (200, b"", len(body))
    assert (known[0], known[2]) == (304, b"")
    assert b"content-length" not in known[1]
    assert head[1][b"etag"] == known[1][b"etag"] == tag
    assert len(asked) == 1


def test_head_alone_is_answered_from_the_application_without_a_body(shop):
    address, asked = shop
    for _ in range(2):
        status, fields, body = read(connected(address, asking(b"HEAD", b"Accept-Encoding: gzip")))
        assert (status, body, fields[b"content-encoding"]) == (200, b"", b"gzip")

    assert len(asked) == 1


def test_hits_follow_each_other_on_one_connection(shop):
    address, _ = shop
    read(connected(address, asking()))
    request = asking().replace(b"Connection: close\r\n", b"")

    with connected(address, request * 3 + asking()) as connection:
        received = b""
        while piece := connection.recv(65_536):
            received += piece

    assert received.count(b"HTTP/1.1 200 OK") == 4
    assert len(set(_ids(received))) == 4


def _ids(received):
    return [line for line in received.split(b"\r\n") if line.lower().startswith(b"x-request-id")]
