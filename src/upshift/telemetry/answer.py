"""How Upshift's own endpoints answer: in one piece, kept by no cache, taken for nothing but what it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from starlette.types import Scope, Send

TEXT = b"text/plain; charset=utf-8"

MAX_QUERY = 2_000
"""Bytes of a query that are read."""


class Answer(NamedTuple):
    """What is told to who asks."""

    status: int
    content_type: bytes
    body: bytes


async def send_answer(answer: Answer, scope: Scope, send: Send) -> None:
    """Send an answer; to a HEAD request without its body."""
    headers = [
        (b"content-type", answer.content_type),
        (b"content-length", str(len(answer.body)).encode()),
        (b"cache-control", b"no-store"),
        (b"x-content-type-options", b"nosniff"),
    ]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    body = b"" if scope["method"] == "HEAD" else answer.body
    await send({"type": "http.response.body", "body": body})
