"""Who is answered: callers on this machine, and nobody whose request came another way."""

from __future__ import annotations

import logging

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from upshift.telemetry.local import LocalEndpoint, refusal


def scope_of(client=("127.0.0.1", 50_000), host="localhost:8000", headers=(), **more):
    sent = [(b"host", host.encode("latin-1"))] if host is not None else []
    return {"type": "http", "method": "GET", "client": client, "headers": [*sent, *headers], **more}


async def ask(endpoint, scope):
    messages = []

    async def send(message):
        messages.append(message)

    await endpoint(scope, None, send)
    start, body = messages
    return start["status"], dict(start["headers"]), body["body"]


@pytest.mark.parametrize("client", ["127.0.0.1", "127.8.9.1", "::1", "::ffff:127.0.0.1"])
@pytest.mark.parametrize(
    "host", ["localhost", "localhost:8000", "127.0.0.1:80", "[::1]:8000", "app.localhost"]
)
def test_a_caller_on_this_machine_is_answered(client, host):
    assert refusal(scope_of((client, 1), host)) == ""


@pytest.mark.parametrize(
    "client", ["10.0.0.7", "128.0.0.1", "::2", "::ffff:10.0.0.7", "testclient", "localhost", ""]
)
def test_a_caller_on_another_machine_is_refused(client):
    assert refusal(scope_of((client, 1)))


@pytest.mark.parametrize("client", [None, ()])
def test_a_caller_of_whom_the_server_tells_nothing_is_refused(client):
    assert refusal(scope_of(client))


@pytest.mark.parametrize(
    "name",
    [
        "forwarded",
        "via",
        "x-forwarded-for",
        "x-forwarded-proto",
        "x-real-ip",
        "cf-connecting-ip",
        "true-client-ip",
    ],
)
def test_what_says_that_it_was_forwarded_is_refused(name):
    assert "proxy" in refusal(scope_of(headers=[(name.encode(), b"127.0.0.1")]))


def test_what_proxies_speak_is_refused():
    assert "proxy" in refusal(scope_of(http_version="1.0"))


@pytest.mark.parametrize(
    "host", ["shop.example", "localhost.example", "127.0.0.1.example", "", None, "10.0.0.7"]
)
def test_what_was_asked_of_another_host_is_refused(host):
    assert refusal(scope_of(host=host))


def test_two_hosts_are_refused():
    assert refusal(scope_of(headers=[(b"host", b"localhost")]))


@given(st.lists(st.tuples(st.binary(max_size=20), st.binary(max_size=50)), max_size=5), st.text(max_size=30))
def test_no_header_and_no_address_breaks_it(headers, client):
    assert isinstance(refusal(scope_of((client, 1), headers=headers)), str)


async def test_the_answer_gets_the_parameters_of_the_query():
    endpoint = LocalEndpoint(msgspec.json.encode)
    status, headers, body = await ask(endpoint, scope_of(query_string=b"top=5&route=%2Forders"))
    assert (status, headers[b"content-type"], body) == (
        200,
        b"application/json",
        b'{"top":"5","route":"/orders"}',
    )
    assert headers[b"cache-control"] == b"no-store"


async def test_a_refused_caller_costs_no_answer_and_is_told_why():
    asked = []
    endpoint = LocalEndpoint(asked.append)
    status, headers, body = await ask(endpoint, scope_of(("10.0.0.7", 1)))
    assert (status, asked) == (403, [])
    assert b"same machine" in body
    assert headers[b"content-type"].startswith(b"text/plain")


async def test_a_query_that_cannot_be_read_is_refused_in_words():
    endpoint = LocalEndpoint(lambda query: msgspec.convert(query, dict[str, int]))
    status, _, body = await ask(endpoint, scope_of(query_string=b"top=many"))
    assert status == 400
    assert b"Expected `int`" in body


async def test_a_fault_is_logged_once_and_counted_and_no_500(caplog):
    endpoint = LocalEndpoint(lambda query: 1 / 0)
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            status, _, _ = await ask(endpoint, scope_of())
            assert status == 503
    assert endpoint.faults == 3
    assert len(caplog.records) == 1


async def test_head_has_the_headers_alone():
    endpoint = LocalEndpoint(lambda query: b"{}")
    status, headers, body = await ask(endpoint, scope_of() | {"method": "HEAD"})
    assert (status, headers[b"content-length"], body) == (200, b"2", b"")
