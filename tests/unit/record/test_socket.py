"""What a `SocketRecorder` records of WebSocket connections, and what it leaves alone."""

import logging
from contextlib import suppress
from contextvars import ContextVar

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount, WebSocketRoute
from starlette.testclient import TestClient, WebSocketDenialResponse
from starlette.websockets import WebSocketDisconnect

from upshift.record import Socket, SocketRecorder, Statement


async def echo(websocket):
    await websocket.accept()
    with suppress(WebSocketDisconnect):
        while True:
            await websocket.send_text(await websocket.receive_text())


class Recording:
    """A recorder around an application, with what it recorded."""

    def __init__(self, endpoint=echo, on_close=None):
        self.closed = []
        self.current = ContextVar("current", default=None)
        routes = [
            WebSocketRoute("/rooms/{room}", endpoint),
            Mount("/sub", routes=[WebSocketRoute("/{name}", endpoint)]),
        ]
        self.recorder = SocketRecorder(Starlette(routes=routes), on_close or self.closed.append, self.current)

    def connect(self, path="/rooms/7", **kwargs):
        return TestClient(self.recorder).websocket_connect(path, **kwargs)

    @property
    def socket(self):
        (socket,) = self.closed
        return socket


def test_a_connection_is_recorded_with_its_route_and_what_went_through_it():
    recording = Recording()
    with recording.connect() as client:
        client.send_text("grüezi")
        client.receive_text()
        client.send_text("a")
        client.receive_text()
    socket = recording.socket
    assert (socket.path, socket.route, socket.status, socket.method) == (
        "/rooms/7",
        "/rooms/{room}",
        101,
        "GET",
    )
    assert (socket.messages_received, socket.messages_sent) == (2, 2)
    assert (socket.request_bytes, socket.response_bytes) == (8, 8)
    assert socket.close_code == 1000
    assert socket.error is None
    assert 0 < socket.first_byte_seconds < socket.seconds


def test_the_bytes_of_binary_messages_are_counted():
    async def endpoint(websocket):
        await websocket.accept()
        await websocket.send_bytes(await websocket.receive_bytes() * 2)
        await websocket.close()

    recording = Recording(endpoint)
    with recording.connect() as client:
        client.send_bytes(b"\xff\x00")
        client.receive_bytes()
    assert (recording.socket.request_bytes, recording.socket.response_bytes) == (2, 4)


def test_a_mounted_route_is_known_by_its_whole_template():
    recording = Recording()
    with recording.connect("/sub/a"):
        pass
    assert recording.socket.route == "/sub/{name}"


def test_a_connection_is_open_from_its_acceptance_to_its_end():
    recording = Recording()
    assert recording.recorder.open == set()
    with recording.connect() as client:
        client.send_text("a")
        client.receive_text()
        (socket,) = recording.recorder.open
        assert socket.messages_received == 1
    assert recording.recorder.open == set()


def test_the_answer_to_the_handshake_carries_the_request_id():
    recording = Recording()
    with recording.connect(headers={"x-request-id": "mine"}) as client:
        assert (b"x-request-id", b"mine") in client.extra_headers
    assert recording.socket.request_id == "mine"


def test_a_refused_connection_has_the_status_of_the_refusal_and_no_close_code():
    async def refuse(websocket):
        await websocket.close()

    recording = Recording(refuse)
    with pytest.raises(WebSocketDisconnect), recording.connect():
        pass
    assert (recording.socket.status, recording.socket.close_code) == (403, None)
    assert recording.socket.route == "/rooms/{room}"


def test_a_refusal_with_an_answer_of_its_own_has_that_status_and_the_request_id():
    async def refuse(websocket):
        await websocket.send_denial_response(WebSocketDenial())

    class WebSocketDenial:
        async def __call__(self, scope, receive, send):
            await send({"type": "websocket.http.response.start", "status": 429, "headers": []})
            await send({"type": "websocket.http.response.body", "body": b"later"})

    recording = Recording(refuse)
    with (
        pytest.raises(WebSocketDenialResponse) as raised,
        recording.connect(headers={"x-request-id": "mine"}),
    ):
        pass
    assert raised.value.headers["x-request-id"] == "mine"
    assert recording.socket.status == 429


def test_a_path_without_a_route_is_refused_without_a_route():
    recording = Recording()
    with pytest.raises(WebSocketDisconnect), recording.connect("/nowhere"):
        pass
    assert (recording.socket.route, recording.socket.status) == (None, 403)


@pytest.mark.parametrize("code", [4000, 1001])
def test_the_code_that_closed_it_is_recorded(code):
    recording = Recording()
    with recording.connect() as client:
        client.close(code)
    assert recording.socket.close_code == code


def test_an_exception_leaves_as_it_came_and_is_recorded():
    async def fail(websocket):
        await websocket.accept()
        raise KeyError("a fault of the application's")

    recording = Recording(fail)
    with pytest.raises(KeyError), recording.connect() as client:
        client.receive_text()
    assert (recording.socket.error, recording.socket.status) == ("KeyError", 101)
    assert recording.socket.close_code == 1006
    assert recording.recorder.open == set()


def test_an_exception_before_the_acceptance_is_a_500():
    async def fail(websocket):
        raise KeyError("a fault of the application's")

    recording = Recording(fail)
    with pytest.raises(KeyError), recording.connect():
        pass
    assert (recording.socket.status, recording.socket.close_code) == (500, None)


def test_statements_are_counted_and_not_kept():
    async def endpoint(websocket):
        await websocket.accept()
        for _ in range(3):
            recording.current.get().add(Statement("SELECT 1", 0.0))
        await websocket.close()

    recording = Recording(endpoint)
    with recording.connect():
        pass
    assert isinstance(recording.socket, Socket)
    assert (recording.socket.statements, recording.socket.statements_dropped) == ([], 3)
    assert recording.current.get() is None


def test_a_fault_in_on_close_is_logged_once_counted_and_kept_from_the_connection(caplog):
    def fail(socket):
        raise RuntimeError("a fault of ours")

    recording = Recording(on_close=fail)
    with caplog.at_level(logging.ERROR, "upshift.record"):
        for _ in range(2):
            with recording.connect():
                pass
    assert (recording.recorder.faults, len(caplog.records)) == (2, 1)


async def test_a_text_that_is_no_unicode_is_counted_all_the_same():
    async def app(scope, receive, send):
        await send({"type": "websocket.accept"})
        await receive()

    async def receive():
        return {"type": "websocket.receive", "text": "\ud800", "bytes": None}

    async def drop(message):
        pass

    closed = []
    recorder = SocketRecorder(app, closed.append, ContextVar("current", default=None))
    await recorder({"type": "websocket", "path": "/" + "x" * 5_000, "headers": []}, receive, drop)
    assert (closed[0].request_bytes, len(closed[0].path)) == (1, 2_000)


def test_a_peer_that_leaves_is_no_error_though_the_application_lets_it_pass():
    async def endpoint(websocket):
        await websocket.accept()
        await websocket.receive_text()

    recording = Recording(endpoint)
    with pytest.raises(WebSocketDisconnect), recording.connect() as client:
        client.close(1001)
    assert (recording.socket.error, recording.socket.close_code) == (None, 1001)
