"""An answer as it is stored, and the messages that it is given as."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import msgspec

from upshift.record.model import REQUEST_ID

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from starlette.types import Message

Headers = tuple[tuple[bytes, bytes], ...]

OF_ONE_ANSWER = frozenset({
    # Those between two hosts only (RFC 9111 §3.1, RFC 9110 §7.6.1), and the age, which is told anew.
    b"age", b"connection", b"date", b"keep-alive", b"proxy-authenticate", b"proxy-authentication-info",
    b"proxy-authorization", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade",
    # Those of one request.
    REQUEST_ID, b"x-correlation-id", b"x-process-time", b"x-runtime", b"x-trace-id", b"server-timing",
    b"traceparent", b"traceresponse", b"tracestate", b"retry-after",
    b"ratelimit", b"ratelimit-limit", b"ratelimit-policy", b"ratelimit-remaining", b"ratelimit-reset",
    b"x-ratelimit-limit", b"x-ratelimit-remaining", b"x-ratelimit-reset",
})  # fmt: skip
"""Header fields that are not stored: they tell of the one answer in which they came."""

_OF_NOT_MODIFIED = frozenset({b"cache-control", b"content-location", b"etag", b"expires", b"vary"})
"""Header fields of a 304 (RFC 9110 §15.4.5); beside them those by which browsers let scripts see it."""


class Stored(msgspec.Struct, frozen=True, array_like=True):
    """An answer: plain data, that any store can hold.

    Attributes:
        status: its HTTP status.
        headers: its header fields, names in lower case; a content-length is among them.
        body: its bytes, encoded as they are sent.
        etag: its entity tag, as among the headers.
        made: when it was made, in Unix time.
        is_public: whether it says that it is for everybody, also for who names himself.
        route: the template of the route that made it.
    """

    status: int
    headers: Headers
    body: bytes
    etag: bytes
    made: float
    is_public: bool
    route: str | None

    @classmethod
    def of(  # noqa: PLR0913 - one for each thing that is told
        cls, status: int, headers: Headers, body: bytes, *, made: float, is_public: bool, route: str | None
    ) -> Stored:
        """Return an answer with these header fields."""
        etag = next((value for name, value in headers if name == b"etag"), b"")
        return cls(status, headers, body, etag, made, is_public, route)

    @property
    def size(self) -> int:
        """Bytes that it takes in memory, about."""
        return len(self.body) + sum(len(name) + len(value) + 120 for name, value in self.headers) + 400

    def field(self, name: bytes) -> bytes:
        """Return a header field's value; empty where there is none."""
        return next((value for each, value in self.headers if each == name), b"")

    def not_modified(self) -> Message:
        """Return the message that begins an answer to a client that has this one already."""
        headers = [
            (name, value)
            for name, value in self.headers
            if name in _OF_NOT_MODIFIED or name.startswith(b"access-control-")
        ]
        return {"type": "http.response.start", "status": 304, "headers": headers}


@lru_cache(1_024)
def age_field(seconds: int) -> tuple[bytes, bytes]:
    """Return the header field that tells how old an answer is; it is none of the future."""
    return b"age", b"%d" % max(0, seconds)


def joined(headers: Iterable[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Return header values by lower-case name; those of a repeated field are joined (RFC 9110 §5.3).

    Example:
        >>> joined([(b"Vary", b"Cookie"), (b"vary", b"Origin")])
        {b'vary': b'Cookie, Origin'}
    """
    fields: dict[bytes, bytes] = {}
    for name, value in headers:
        key = name.lower()
        fields[key] = b", ".join((fields[key], value)) if key in fields else value
    return fields


def listed(field: bytes) -> frozenset[bytes]:
    """Return the names that a header field lists, in lower case."""
    return frozenset(name for each in field.split(b",") if (name := each.strip().lower()))


def storable_headers(headers: Iterable[tuple[bytes, bytes]], fields: Mapping[bytes, bytes]) -> Headers:
    """Return the header fields that are stored, names in lower case."""
    return tuple(_storable(headers, OF_ONE_ANSWER | listed(fields.get(b"connection", b""))))


def _storable(
    headers: Iterable[tuple[bytes, bytes]], dropped: frozenset[bytes]
) -> Iterator[tuple[bytes, bytes]]:
    for name, value in headers:
        lower = name.lower()
        if lower not in dropped:
            yield lower, value
