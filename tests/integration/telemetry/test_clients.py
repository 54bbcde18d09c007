"""The request's ids in calls of httpx, requests and aiohttp, as real servers receive them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextvars import ContextVar
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import aiohttp
import httpx
import pytest
import requests
from fastapi import FastAPI

from upshift.record import Record, Recorder
from upshift.record.identity import parse_traceparent
from upshift.telemetry.ids.clients import ClientHooks
from upshift.telemetry.ids.propagation import Propagation

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
IDS = ("traceparent", "x-request-id")


class Peer:
    """A service that notes the headers it gets, and redirects to `?to=…`."""

    def __init__(self) -> None:
        self.seen: list[dict[str, str]] = []
        peer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                peer.seen.append({name.lower(): value for name, value in self.headers.items()})
                to = parse_qs(urlsplit(self.path).query).get("to")
                self.send_response(302 if to else 200)
                if to:
                    self.send_header("location", to[0])
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *arguments):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/"

    def ids(self) -> list[tuple[str | None, ...]]:
        return [tuple(seen.get(name) for name in IDS) for seen in self.seen]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def peer() -> Iterator[Peer]:
    peer = Peer()
    yield peer
    peer.close()


@pytest.fixture
def other() -> Iterator[Peer]:
    peer = Peer()
    yield peer
    peer.close()


@pytest.fixture
def propagation() -> Propagation:
    return Propagation(ContextVar("current", default=None))


@pytest.fixture
def hooks(propagation) -> Iterator[ClientHooks]:
    hooks = ClientHooks(propagation)
    yield hooks
    assert hooks.faults == 0


@pytest.fixture
def ids(propagation):
    """Within a request: what a peer should get."""
    with propagation.restore({"traceparent": f"00-{TRACE}-{SPAN}-01"}):
        yield (f"00-{TRACE}-{SPAN}-01", TRACE)


async def get_by_httpx(hooks, peer, url, headers):
    with httpx.Client(event_hooks={"request": [hooks.httpx]}, follow_redirects=True) as client:
        client.get(url, headers=headers)  # noqa: ASYNC212 - the sync client is under test


async def get_by_async_httpx(hooks, peer, url, headers):
    async with httpx.AsyncClient(event_hooks={"request": [hooks.httpx]}, follow_redirects=True) as client:
        await client.get(url, headers=headers)


async def get_by_requests(hooks, peer, url, headers):
    with requests.Session() as session:
        session.mount(peer.url, hooks.requests())
        session.get(url, headers=headers)


async def get_by_aiohttp(hooks, peer, url, headers):
    async with (
        aiohttp.ClientSession(trace_configs=[hooks.aiohttp()]) as session,
        session.get(url, headers=headers),
    ):
        pass


@pytest.mark.parametrize("get", [get_by_httpx, get_by_async_httpx, get_by_requests, get_by_aiohttp])
class TestEveryClient:
    async def test_a_call_carries_the_ids_of_its_request(self, get, hooks, peer, ids):
        await get(hooks, peer, peer.url, {})
        assert peer.ids() == [ids]

    async def test_a_call_outside_of_a_request_carries_none(self, get, hooks, peer):
        await get(hooks, peer, peer.url, {})
        assert peer.ids() == [(None, None)]

    async def test_headers_of_the_caller_stay(self, get, hooks, peer, ids):
        own = {"Traceparent": f"00-{TRACE}-{'1' * 16}-00", "X-REQUEST-ID": "mine"}
        await get(hooks, peer, peer.url, own)
        assert peer.ids() == [(own["Traceparent"], "mine")]

    async def test_a_redirect_within_the_origin_carries_them_on(self, get, hooks, peer, ids):
        await get(hooks, peer, f"{peer.url}?to=/elsewhere", {})
        assert peer.ids() == [ids, ids]

    async def test_a_redirect_to_another_origin_does_not(self, get, hooks, peer, other, ids):
        await get(hooks, peer, f"{peer.url}?to={other.url}", {})
        assert peer.ids() == [ids]
        assert other.ids() == [(None, None)]

    async def test_what_the_caller_set_goes_to_the_other_origin_as_the_client_has_it(
        self, get, hooks, peer, other, ids
    ):
        await get(hooks, peer, f"{peer.url}?to={other.url}", {"X-Request-ID": "mine"})
        assert other.ids() == [(None, "mine")]


class TestOneClientForManyRequests:
    def test_each_call_carries_the_ids_of_the_request_it_is_made_in(self, propagation, hooks, peer):
        session = requests.Session()
        session.mount("http://", hooks.requests())
        with httpx.Client(event_hooks={"request": [hooks.httpx]}) as client, session:
            for number in range(3):
                with propagation.restore({"X-Request-ID": f"request-{number}"}):
                    client.get(peer.url)
                    session.get(peer.url)
        assert [each for _, each in peer.ids()] == [f"request-{n}" for n in (0, 0, 1, 1, 2, 2)]

    def test_of_two_applications_that_share_it_the_one_whose_request_is_open_adds_its_ids(
        self, hooks, peer, ids
    ):
        others = ClientHooks(Propagation(ContextVar("others", default=None)))
        with httpx.Client(event_hooks={"request": [others.httpx, hooks.httpx]}) as client:
            client.get(peer.url)
        assert peer.ids() == [ids]

    def test_the_adapter_of_requests_takes_its_options(self, hooks):
        assert hooks.requests(max_retries=3).max_retries.total == 3


class TestFaults:
    @pytest.mark.parametrize("get", [get_by_httpx, get_by_async_httpx, get_by_requests, get_by_aiohttp])
    async def test_a_fault_is_logged_once_and_the_calls_go_on(self, get, peer, caplog):
        hooks = ClientHooks(None)  # fails in the midst of the hook
        await get(hooks, peer, peer.url, {})
        await get(hooks, peer, f"{peer.url}?to=/elsewhere", {})
        assert len(peer.seen) == 3
        assert hooks.faults >= 2
        assert len(caplog.records) == 1

    async def test_an_unreadable_redirect_is_the_clients_business(self, hooks, peer, ids):
        with pytest.raises(aiohttp.ClientError):
            await get_by_aiohttp(hooks, peer, f"{peer.url}?to=http://[", {})


async def test_a_chain_of_services_shares_one_trace(propagation):
    """From a request to an application of ours, through its call, to another one of ours."""
    records: list[Record] = []
    current: ContextVar[Record | None] = ContextVar("current", default=None)
    back, front = FastAPI(), FastAPI()

    @back.get("/stock")
    def stock(): ...

    hooks = ClientHooks(Propagation(current, lambda record: True))
    transport = httpx.ASGITransport(Recorder(back, records.append, ContextVar("other", default=None)))
    client = httpx.AsyncClient(
        transport=transport, base_url="http://back", event_hooks={"request": [hooks.httpx]}
    )

    @front.get("/order")
    async def order():
        await client.get("/stock")

    outer = httpx.ASGITransport(Recorder(front, records.append, current))
    async with client, httpx.AsyncClient(transport=outer, base_url="http://front") as browser:
        await browser.get("/order")
    inner, request = records
    assert inner.trace_id == request.trace_id
    assert inner.parent_span_id == request.span_id
    assert inner.is_sampled is True
    assert parse_traceparent(f"00-{inner.trace_id}-{inner.span_id}-01".encode())
