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
from typing import TYPE_CHECKING

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

MINIMUM_BYTES = 1_000
"""Smaller bodies fit one network packet compressed or not."""

LEVEL = 1
"""zlib's fastest level; why, is said at the top of this module."""

THREAD_BYTES = 256 * 1024
"""Pieces of a body from this size on are compressed in a thread (zlib lets go of the GIL), since the event
loop would stand still for milliseconds."""

REMEMBERED = 64
"""Accept-Encoding values whose meaning is remembered. Clients send a handful."""

_GZIP_WINDOW = 16 + zlib.MAX_WBITS

_NO_CONTENT = frozenset({204, 205})
_PARTIAL_CONTENT = 206
_NOT_MODIFIED = 304

# These describe the bytes as they are: coded already, or digested (RFC 9530, RFC 1864).
_PINNED = frozenset({b"content-encoding", b"content-digest", b"repr-digest", b"digest", b"content-md5"})

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
        asked = _fields(headers)
        wanted = self._preference(asked.get(b"accept-encoding", b"").decode("latin-1"))
        response = _Response(
            send,
            wanted,
            level=self._level,
            minimum_bytes=1 if wanted is Preference.GZIP_ONLY else max(1, self._minimum_bytes),
            known_tags=asked.get(b"if-none-match", b""),
            is_head=scope["method"] == "HEAD",
            may_mix="http.response.zerocopysend" in (scope.get("extensions") or ()),
        )
        # In place, and put back: outer middleware reads in the scope what the router leaves there.
        scope["headers"] = _with_plain_tags(headers, asked, wanted)
        try:
            await self._app(scope, receive, response.send)
        finally:
            scope["headers"] = headers


class _Response:
    """One response on its way out."""

    __slots__ = ("_encoder", "_is_head", "_known_tags", "_level", "_may_mix", "_minimum_bytes", "_send", "_start", "_wanted")

    def __init__(
        self,
        send: Send,
        wanted: Preference,
        *,
        level: int,
        minimum_bytes: int,
        known_tags: bytes,
        is_head: bool,
        may_mix: bool,
    ) -> None:
        self._send = send
        self._wanted = wanted
        self._level = level
        self._minimum_bytes = minimum_bytes
        self._known_tags = known_tags
        self._is_head = is_head
        self._may_mix = may_mix
        self._start: Message | None = None  # held back until the size is known
        self._encoder: zlib._Compress | None = None

    async def send(self, message: Message) -> None:
        kind = message["type"]
        if kind == "http.response.start":
            await self._on_start(message)
        elif kind == "http.response.body":
            await self._on_body(message)
        else:
            if kind in _SENT_BY_SERVER:
                await self._send_start()
            await self._send(message)

    async def _on_start(self, message: Message) -> None:
        status = message["status"]
        headers = message.get("headers", ())
        fields = _fields(headers)
        if not self._is_negotiable(status, fields):
            await self._send(message)
            return
        headers = with_vary(headers)
        if status == _NOT_MODIFIED:
            headers = [self._tag_known_to_the_client(field) for field in headers]
        message = {**message, "headers": headers}
        if (
            self._wanted is Preference.IDENTITY
            or status in {_PARTIAL_CONTENT, _NOT_MODIFIED}
            or b"content-range" in fields
        ):
            await self._send(message)
        else:
            self._start = message

    def _is_negotiable(self, status: int, fields: dict[bytes, bytes]) -> bool:
        """Whether this response, or the one that a 304 stands for, may depend on Accept-Encoding."""
        if status < 200 or status in _NO_CONTENT:
            return False
        if not _PINNED.isdisjoint(fields) or b"no-transform" in fields.get(b"cache-control", b"").lower():
            return False
        if status == _NOT_MODIFIED or self._wanted is Preference.GZIP_ONLY:
            return True
        return is_compressible(fields.get(b"content-type", b"").decode("latin-1"))
