"""The ASGI middleware that opens a `Record` for each HTTP request and closes it when the request is over.

It stands outermost and is on every request's way, so it does little: one look at the headers, one wrapped
`send`, no formatting, no matching. What is made of a record is the business of whoever takes it at the end.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from time import perf_counter
from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException

from upshift.record.fork import after_fork
from upshift.record.identity import IDENTIFYING, SPAN, Ids, safe_request_id
from upshift.record.model import INCOMPLETE, REQUEST_ID, Record
from upshift.record.route import RouteTemplates

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from contextvars import ContextVar

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    HeadersOf = Callable[[Record, Mapping[bytes, bytes]], tuple[tuple[bytes, bytes], ...]]

BODIES = frozenset({"http.response.body", "http.response.pathsend", "http.response.zerocopysend"})
"""The messages that carry the body; the last is the one without `more_body`."""

_WITH_A_BODY = frozenset({b"content-length", b"transfer-encoding"})
_READ = IDENTIFYING | _WITH_A_BODY

logger = logging.getLogger("upshift.record")


class Recorder:
    """Records the HTTP requests that pass it; websockets and the lifespan go where `others` leads.

    A record is open, and `current`, until the application returns. So the statements of background tasks
    and of dependencies' exit code, which run after the last byte, belong to it; `seconds` ends at that byte.
    Bytes of files that the server itself sends (`http.response.pathsend`) are not seen.

    An exception leaves as it came; where nothing was answered before, and no application is outside that may
    answer, a plain 500 goes out first, which the server would send too, but without the request's id. A
    fault in `on_close` is logged once, counted, and kept from the request.

    Args:
        app: the application to record.
        on_close: takes each record when its request is over; it runs in the request's way, and should be
            quick. What headers tell has yet to be read, by `upshift.record.completion`.
        current: holds the open record; statements are added to it from wherever the request's context is.
        others: what gets the scopes that are no HTTP requests; the application itself where not given.
        templates: reads the routes of requests; one of its own where not given.
        headers_of: tells further headers of an answer, when its start is sent, by the record and the
            request's headers; it must not raise.

    Attributes:
        open: the records of requests that are open.
        faults: records lost to exceptions of `on_close`.

    Example:
        >>> import asyncio
        >>> from contextvars import ContextVar
        >>> async def app(scope, receive, send):
        ...     await send({"type": "http.response.start", "status": 204, "headers": []})
        ...     await send({"type": "http.response.body"})
        >>> async def ignore(message): ...
        >>> records = []
        >>> recorder = Recorder(app, records.append, ContextVar("current", default=None))
        >>> scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
        >>> asyncio.run(recorder(scope, None, ignore))
        >>> records[0].method, records[0].path, records[0].status
        ('GET', '/', 204)
    """

    def __init__(  # noqa: PLR0913 - what it writes to, and what it is told
        self,
        app: ASGIApp,
        on_close: Callable[[Record], None],
        current: ContextVar[Record | None],
        *,
        others: ASGIApp | None = None,
        templates: RouteTemplates | None = None,
        headers_of: HeadersOf | None = None,
    ) -> None:
        self.open: set[Record] = set()
        self.faults = 0
        self._app = app
        self._others = others or app
        self._further = headers_of
        self._on_close = on_close
        self._current = current
        ids = Ids()
        self._identify, self._mint, self._minted = ids.identify, ids.mint, ids.minted
        self._find_route = (templates or RouteTemplates()).find
        after_fork(self._forget)

    def _forget(self) -> None:
        """In a forked child: the open requests are the parent's."""
        self.open.clear()

    # In one piece: a call costs half a microsecond among the work of a request, and there are few to save.
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: C901, PLR0912, PLR0915 - see above
        """Run the application and record what it answers."""
        if scope["type"] != "http":
            await self._others(scope, receive, send)
            return
        # CPython 3.11 calls what an object has been given faster from a local name.
        app, current, find_route, close = self._app, self._current, self._find_route, self._on_close

        record = Record(scope["method"], scope["path"], perf_counter(), scope)
        read = {}
        for name, value in scope["headers"]:
            if name in _READ:
                read[name] = value  # noqa: PERF403 - a comprehension is a call, and most have nothing to read
        if read:
            self._identify(record, read)
            if not _WITH_A_BODY.isdisjoint(read):
                receive = _counting(receive, record)
        else:
            minted = self._minted
            try:  # as in `Ids.mint`, without a call of it
                trace_id = minted.pop()
            except IndexError:
                trace_id = self._mint()
            record.request_id = record.trace_id = trace_id
            record.span_id = trace_id[SPAN]
        if self._further is not None:
            send = _telling(self._further, record, scope, send)

        # No coroutine of its own: it only looks at messages on their way.
        def recording_send(message: Message) -> Awaitable[None]:
            kind = message["type"]
            if kind == "http.response.start":
                record.status = message["status"]
                record.first_byte_seconds = perf_counter() - record.started
                headers = [*message.get("headers", ())]  # any iterable will do, by the ASGI specification
                record.response_headers = headers
                for name, value in headers:
                    if name == REQUEST_ID:  # the application, or a recorder inside of it, has its own way
                        record.request_id = safe_request_id(value) or record.request_id
                        break
                else:
                    headers.append((REQUEST_ID, record.request_id.encode()))
                message = {**message}  # at half the price of one with another item
                message["headers"] = headers
            elif kind in BODIES:
                record.response_bytes += len(message.get("body", b""))
                if not message.get("more_body"):
                    return _send_last(send, message, record)
                record.is_streamed = True
            return send(message)

        is_outermost = "app" not in scope  # an application outside answers exceptions by itself
        self.open.add(record)
        token = current.set(record)
        try:
            await app(scope, receive, recording_send)
        except BaseException as error:
            _note(record, error)
            if is_outermost:
                await _answer_if_nobody_has(record, error, recording_send)
            raise
        finally:
            current.reset(token)
            self.open.discard(record)
            if not record.seconds:  # the last byte was never sent
                _end(record)
            try:
                record.route = find_route(scope)
                record.is_closed = True
                close(record)
            except Exception:
                self.faults += 1
                if self.faults == 1:
                    logger.exception(
                        "a record was lost, its request was not touched; later faults are only counted"
                    )


def _telling(headers_of: HeadersOf, record: Record, scope: Scope, send: Send) -> Send:
    """Tell further headers with the start of an answer, whose message is the recorder's own by now."""

    def telling_send(message: Message) -> Awaitable[None]:
        if message["type"] == "http.response.start":
            message["headers"][:0] = headers_of(record, dict(scope["headers"]))
        return send(message)

    return telling_send


async def _send_last(send: Send, message: Message, record: Record) -> None:
    await send(message)
    record.seconds = perf_counter() - record.started


def _note(record: Record, error: BaseException) -> None:
    if isinstance(error, HTTPException) and not record.status:
        # Whoever is outside answers with it.
        record.status = error.status_code
        record.seconds = perf_counter() - record.started
    else:
        record.error = type(error).__name__


def _end(record: Record) -> None:
    record.seconds = perf_counter() - record.started
    record.error = record.error or INCOMPLETE
    record.status = record.status or 500


async def _answer_if_nobody_has(record: Record, error: BaseException, send: Send) -> None:
    if record.status or not isinstance(error, Exception):
        return
    with suppress(Exception):  # the client has gone; the application's exception is the one to tell of
        headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"21")]
        await send({"type": "http.response.start", "status": 500, "headers": headers})
        await send({"type": "http.response.body", "body": b"Internal Server Error"})


def _counting(receive: Receive, record: Record) -> Receive:
    """Count the bytes of the request's body that the application reads."""

    async def counting_receive() -> Message:
        message = await receive()
        if message["type"] == "http.request":
            record.request_bytes += len(message.get("body", b""))
        return message

    return counting_receive
