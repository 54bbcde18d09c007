"""The ASGI middleware that compresses responses with gzip for clients that accept it (RFC 9110 §8.4).

The level is 1. On 111 KB of JSON, zlib took 2.0 ms for 37.6 % of the size at level 1, 3.5 ms for 33.2 % at
level 6, and 9.5 ms for 32.7 % at level 9, which is the default of most frameworks. A backend is short of CPU
before it is short of network, and the last tenth of the size costs four times the first nine.

What decides is known in two steps: the header fields with `http.response.start`, the size with the first
message of the body. So the start is held back until then, but only where the answer may be compressed.
"""

from __future__ import annotations

import asyncio
import zlib
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from upshift.errors import SettingsError
from upshift.traffic.negotiation import (
    Preference,
    gzip_tag,
    is_compressible,
    plain_tags,
    preference,
    with_vary,
)

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from upshift.traffic.negotiation import Headers

MINIMUM_BYTES = 1_000
"""Smaller bodies fit one network packet compressed or not."""

LEVEL = 1
"""zlib's fastest level; why, is said at the top of this module."""

THREAD_BYTES = 256 * 1024
"""Pieces of a body from this size on are compressed in a thread (zlib lets go of the GIL), since the event
loop would stand still for milliseconds."""

REMEMBERED = 64
"""Accept-Encoding values whose meaning is remembered. Clients send a handful."""

_GZIP = 16 + zlib.MAX_WBITS
"""zlib's way to ask for a gzip header and trailer."""

_OK = 200
_NO_CONTENT = frozenset({204, 205})
_PARTIAL_CONTENT = 206
_NOT_MODIFIED = 304

# These describe the bytes as they are: coded already, or digested (RFC 9530, RFC 1864).
_PINNED = frozenset({b"content-encoding", b"content-digest", b"repr-digest", b"digest", b"content-md5"})

# Ranges are of the plain form, so they are no longer offered.
_OF_THE_PLAIN_FORM = frozenset({b"content-length", b"accept-ranges"})

_SENT_BY_SERVER = frozenset({"http.response.pathsend", "http.response.zerocopysend"})


class Compression:
    """Compresses the responses of an application for clients that accept gzip.

    Left as they are: bodies under `minimum_bytes`, media types that do not shrink, `text/event-stream`,
    responses that are encoded already or marked `Cache-Control: no-transform`, ranges, files that the server
    sends itself, websockets. A body that comes in pieces is compressed in pieces, each flushed, so that it
    arrives when it was sent.

    A response that could have been compressed carries `Vary: Accept-Encoding` either way. A strong entity tag
    gets the suffix `-gzip`, which is taken off again where the client sends it back.

    Args:
        app: the application to compress for.
        minimum_bytes: bodies smaller than this are sent as they are.
        level: zlib's level, from 1 (fastest) to 9 (smallest).

    Raises:
        SettingsError: `minimum_bytes` is negative, or `level` is not from 1 to 9.

    Example:
        >>> from starlette.responses import PlainTextResponse
        >>> app = Compression(PlainTextResponse("aye " * 1000))
    """

    def __init__(self, app: ASGIApp, *, minimum_bytes: int = MINIMUM_BYTES, level: int = LEVEL) -> None:
        if minimum_bytes < 0:
            raise SettingsError(f"minimum_bytes is a size, 0 or more, not {minimum_bytes}")
        if level not in range(1, 10):
            raise SettingsError(f"level is from 1 (fastest) to 9 (smallest), as zlib has it, not {level}")
        self._app = app
        self._minimum_bytes = minimum_bytes
        self._level = level
        self._preference = lru_cache(REMEMBERED)(preference)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application and compress what it answers."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = scope["headers"]
        fields = _fields(headers)
        request = _Request(
            wanted=self._preference(fields.get(b"accept-encoding", b"").decode("latin-1")),
            known_tags=fields.get(b"if-none-match", b""),
            is_head=scope["method"] == "HEAD",
            may_mix="http.response.zerocopysend" in (scope.get("extensions") or ()),
        )
        response = _Response(send, request, self._minimum_bytes, self._level)
        # In place, and put back afterwards: outer middleware reads in the scope what the router leaves there.
        if b"if-match" in fields or b"if-none-match" in fields:
            scope["headers"] = _as_the_application_knows(headers, request.wanted)
        try:
            await self._app(scope, receive, response.send)
        finally:
            scope["headers"] = headers


class _Request(NamedTuple):
    """What of a request matters for the coding of its response.

    Attributes:
        wanted: what Accept-Encoding asks for.
        known_tags: the If-None-Match header as the client sent it.
        is_head: whether only the headers will be sent.
        may_mix: whether the server takes files between pieces of the body, which gzip could not follow.
    """

    wanted: Preference
    known_tags: bytes
    is_head: bool
    may_mix: bool


class _Response:
    """One response on its way out: decides at the first message of the body, then sends or encodes."""

    __slots__ = ("_declared", "_encoder", "_level", "_minimum_bytes", "_request", "_send", "_start")

    def __init__(self, send: Send, request: _Request, minimum_bytes: int, level: int) -> None:
        self._send = send
        self._request = request
        # A client that refuses the plain form is sent gzip whatever the size, if there is anything to send.
        self._minimum_bytes = 1 if request.wanted is Preference.GZIP_ONLY else max(1, minimum_bytes)
        self._level = level
        self._start: Message | None = None  # held back while undecided
        self._declared: int | None = None  # its Content-Length
        self._encoder: zlib._Compress | None = None  # present while gzip is under way

    async def send(self, message: Message) -> None:
        kind = message["type"]
        if kind == "http.response.start":
            await self._on_start(message)
        elif kind == "http.response.body" and self._start is not None:
            await self._on_first_body(self._start, message)
        elif kind == "http.response.body" and self._encoder is not None:
            await self._send_encoded(self._encoder, message)
        else:
            if self._start is not None and kind in _SENT_BY_SERVER:
                await self._send(self._start)
                self._start = None
            await self._send(message)

    async def _on_start(self, message: Message) -> None:
        status = message["status"]
        headers = message.get("headers", ())
        fields = _fields(headers)
        wanted = self._request.wanted
        if not _is_negotiable(status, fields):
            await self._send(message)
            return
        headers = with_vary(headers)
        if wanted is Preference.IDENTITY or status == _PARTIAL_CONTENT or b"content-range" in fields:
            await self._send({**message, "headers": headers})
        elif status == _NOT_MODIFIED:
            headers = [(name, self._known_tag(name, value)) for name, value in headers]
            await self._send({**message, "headers": headers})
        else:
            self._start = {**message, "headers": headers}
            length = fields.get(b"content-length", b"")
            self._declared = int(length) if length.isdigit() else None

    def _known_tag(self, name: bytes, value: bytes) -> bytes:
        """A 304 names the stored response that it confirms, so the tag is the client's form of it."""
        is_known = name.lower() == b"etag" and gzip_tag(value) in self._request.known_tags
        return gzip_tag(value) if is_known else value

    async def _on_first_body(self, start: Message, message: Message) -> None:
        self._start = None
        body = message.get("body", b"")
        more = message.get("more_body", False)
        # The answer to HEAD may declare a length without having the body.
        size = self._declared if more else len(body) or self._declared or 0
        if (size is not None and size < self._minimum_bytes) or (more and self._request.may_mix):
            await self._send(start)
            await self._send(message)
        elif self._request.is_head:
            await self._send({**start, "headers": _gzip_headers(start["headers"], None)})
            await self._send(message)
        elif more:
            self._encoder = zlib.compressobj(self._level, wbits=_GZIP)
            await self._send({**start, "headers": _gzip_headers(start["headers"], None)})
            await self._send_encoded(self._encoder, message)
        else:
            await self._send_whole(start, message, body)

    async def _send_whole(self, start: Message, message: Message, body: bytes) -> None:
        encoded = await _encode(zlib.compressobj(self._level, wbits=_GZIP), body, zlib.Z_FINISH)
        if len(encoded) >= len(body) and self._request.wanted is not Preference.GZIP_ONLY:
            await self._send(start)
            await self._send(message)
            return
        length = None if start.get("trailers", False) else len(encoded)
        await self._send({**start, "headers": _gzip_headers(start["headers"], length)})
        await self._send({**message, "body": encoded})

    async def _send_encoded(self, encoder: zlib._Compress, message: Message) -> None:
        body = message.get("body", b"")
        if not message.get("more_body", False):
            self._encoder = None
            body = await _encode(encoder, body, zlib.Z_FINISH)
        elif body:
            body = await _encode(encoder, body, zlib.Z_SYNC_FLUSH)
        await self._send({**message, "body": body})


async def _encode(encoder: zlib._Compress, body: bytes, flush: int) -> bytes:
    def encode() -> bytes:
        return encoder.compress(body) + encoder.flush(flush)

    return await asyncio.to_thread(encode) if len(body) >= THREAD_BYTES else encode()


def _is_negotiable(status: int, fields: dict[bytes, bytes]) -> bool:
    """Whether this response, or the one that a 304 stands for, may depend on Accept-Encoding."""
    if status < _OK or status in _NO_CONTENT:
        return False
    if not _PINNED.isdisjoint(fields) or b"no-transform" in fields.get(b"cache-control", b"").lower():
        return False
    return status == _NOT_MODIFIED or is_compressible(fields.get(b"content-type", b"").decode("latin-1"))


def _as_the_application_knows(headers: Headers, wanted: Preference) -> list[tuple[bytes, bytes]]:
    """The request's headers with our suffix taken off the entity tags.

    If-Match guards an update of the resource, in whatever coding it was read. If-None-Match asks for the very
    form that the client has, which a client that refuses gzip now cannot be meant to keep. If-Range stays, as
    a range of the plain form does not continue a gzip one.
    """
    ours = (b"if-match", b"if-none-match") if wanted is not Preference.IDENTITY else (b"if-match",)
    return [(name, plain_tags(value) if name in ours else value) for name, value in headers]


def _gzip_headers(headers: Headers, length: int | None) -> list[tuple[bytes, bytes]]:
    """The headers of the gzip form, `length` bytes long if that is known."""
    changed = [
        (name, gzip_tag(value) if name.lower() == b"etag" else value)
        for name, value in headers
        if name.lower() not in _OF_THE_PLAIN_FORM
    ]
    changed.append((b"content-encoding", b"gzip"))
    if length is not None:
        changed.append((b"content-length", str(length).encode()))
    return changed


def _fields(headers: Headers) -> dict[bytes, bytes]:
    """Header values by lower-case name; those of a repeated field are joined (RFC 9110 §5.3)."""
    fields: dict[bytes, bytes] = {}
    for name, value in headers:
        key = name.lower()
        fields[key] = b", ".join((fields[key], value)) if key in fields else value
    return fields
