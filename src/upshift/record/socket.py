"""The ASGI middleware that records WebSocket connections.

A connection may live for days, so its record keeps no statements but hands them on, and is seen while it is
open: whoever tells of connections reads `SocketRecorder.open`.
"""

from __future__ import annotations

import logging
from time import perf_counter
from typing import TYPE_CHECKING

from starlette.websockets import WebSocketDisconnect

from upshift.record.completion import complete
from upshift.record.fork import after_fork
from upshift.record.identity import Ids
from upshift.record.model import MAX_TEXT, REQUEST_ID
from upshift.record.ongoing import Excerpt, Ongoing
from upshift.record.route import RouteTemplates

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import ContextVar

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from upshift.record.model import Record

SWITCHING_PROTOCOLS = 101
FORBIDDEN = 403
NORMAL = 1000
ABNORMAL = 1006
"""The close code of a connection that was lost without one, as in RFC 6455, section 7.1.5."""

NO_STATUS = 1005
"""The close code of a connection whose peer closed it without giving one, likewise."""

_ANSWERS = frozenset({"websocket.accept", "websocket.http.response.start"})

logger = logging.getLogger("upshift.record")


class Socket(Ongoing):
    """One WebSocket connection: the record of its handshake, and what went through it.

    Attributes:
        status: 101 where it was accepted, else the status of the refusal; 0 until then.
        request_bytes: bytes of the messages received; text counts as UTF-8.
        response_bytes: bytes of the messages sent.
        messages_received: messages that the application read.
        messages_sent: messages that it sent.
        close_code: the code that ended it (RFC 6455, section 7.4); None while open and where it was refused.
    """

    __slots__ = ("close_code", "messages_received", "messages_sent")

    kind = "WEBSOCKET"

    def __init__(self, path: str, started: float) -> None:
        super().__init__("GET", path, started)
        self.is_streamed = True  # a connection is not slow because it lives long
        self.messages_received = 0
        self.messages_sent = 0
        self.close_code: int | None = None


class SocketRecorder:
    """Records the WebSocket connections that pass it; all else passes untouched.

    The answer to the handshake carries the request id. An exception leaves as it came. A fault in `on_close`
    is logged once, counted, and kept from the connection.

    Args:
        app: the application to record.
        on_close: takes each connection when the application is done with it.
        current: holds the record of the connection, wherever its context is.
        templates: reads the routes of connections; one of its own where not given.
        hand_on: takes the statements of connections, some at a time.

    Attributes:
        open: the connections that were accepted and are open.
        faults: records lost to exceptions of `on_close`.

    Example:
        >>> import asyncio
        >>> from contextvars import ContextVar
        >>> async def echo(scope, receive, send):
        ...     await receive()
        ...     await send({"type": "websocket.accept"})
        ...     await send({"type": "websocket.send", "text": (await receive())["text"]})
        ...     await send({"type": "websocket.close"})
        >>> messages = iter([{"type": "websocket.connect"}, {"type": "websocket.receive", "text": "hello"}])
        >>> async def receive():
        ...     return next(messages)
        >>> async def send(message): ...
        >>> closed = []
        >>> recorder = SocketRecorder(echo, closed.append, ContextVar("current", default=None))
        >>> asyncio.run(recorder({"type": "websocket", "path": "/echo", "headers": []}, receive, send))
        >>> closed[0].messages_received, closed[0].response_bytes, closed[0].close_code
        (1, 5, 1000)
    """

    def __init__(
        self,
        app: ASGIApp,
        on_close: Callable[[Socket], None],
        current: ContextVar[Record | None],
        templates: RouteTemplates | None = None,
        hand_on: Callable[[Excerpt], None] | None = None,
    ) -> None:
        self.open: set[Socket] = set()
        self.faults = 0
        self._app = app
        self._on_close = on_close
        self._current = current
        self._ids = Ids()
        self._templates = templates or RouteTemplates()
        self._hand_on = hand_on
        after_fork(self._forget)

    def _forget(self) -> None:
        """In a forked child: the open connections are the parent's."""
        self.open.clear()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application and record what goes through the connection."""
        if scope["type"] != "websocket":
            await self._app(scope, receive, send)
            return

        socket = Socket(scope["path"][:MAX_TEXT], perf_counter())
        socket.scope = scope
        socket.hand_on = self._hand_on
        self._ids.identify(socket, dict(scope["headers"]))

        async def recording_receive() -> Message:
            message = await receive()
            if message["type"] == "websocket.receive":
                socket.messages_received += 1
                socket.request_bytes += _size(message)
            elif message["type"] == "websocket.disconnect":
                _end(socket, message.get("code") or NO_STATUS)
            return message

        async def recording_send(message: Message) -> None:
            if message["type"] in _ANSWERS:
                request_id = (REQUEST_ID, socket.request_id.encode("ascii"))
                message = {**message, "headers": [*message.get("headers", ()), request_id]}
            await send(message)
            _note_sent(socket, message)
            if message["type"] == "websocket.accept":
                socket.route = self._templates.find(scope)
                self.open.add(socket)

        token = self._current.set(socket)
        try:
            await self._app(scope, recording_receive, recording_send)
        except BaseException as error:
            if not isinstance(error, WebSocketDisconnect):  # the usual way to learn of the end
                socket.error = type(error).__name__
            raise
        finally:
            self._current.reset(token)
            self._close(socket, scope)

    def _close(self, socket: Socket, scope: Scope) -> None:
        self.open.discard(socket)
        _end(socket, ABNORMAL)
        if socket.status != SWITCHING_PROTOCOLS:
            socket.status = socket.status or 500
            socket.close_code = None
        try:
            socket.route = socket.route or self._templates.find(scope)
            socket.is_closed = True
            complete(socket)
            socket.hand_on_all()
            self._on_close(socket)
        except Exception:
            self.faults += 1
            if self.faults == 1:
                logger.exception("a connection was not counted; later faults are only counted")


_NO_REQUESTS = (Socket, Excerpt)


def of_requests(take: Callable[[Record], None]) -> Callable[[Record], None]:
    """Return what takes the records of HTTP requests only, and lets those of connections pass."""

    def take_requests(record: Record) -> None:
        if not isinstance(record, _NO_REQUESTS):
            take(record)

    return take_requests


def _note_sent(socket: Socket, message: Message) -> None:
    match message["type"]:
        case "websocket.send":
            socket.messages_sent += 1
            socket.response_bytes += _size(message)
        case "websocket.accept":
            socket.status = SWITCHING_PROTOCOLS
            socket.first_byte_seconds = perf_counter() - socket.started
        case "websocket.close":
            socket.status = socket.status or FORBIDDEN
            _end(socket, message.get("code") or NORMAL)
        case "websocket.http.response.start":
            socket.status = message["status"]


def _end(socket: Socket, code: int) -> None:
    """Note the first end: what closed the connection, and when."""
    if socket.close_code is None:
        socket.close_code = code
        socket.seconds = perf_counter() - socket.started


def _size(message: Message) -> int:
    data = message.get("bytes")
    return len(data) if data is not None else len((message.get("text") or "").encode("utf-8", "replace"))
