"""What is read of a request's headers, and made of its statements, only when its record is kept or taken."""

from __future__ import annotations

from typing import TYPE_CHECKING

from upshift.record.settling import settle

if TYPE_CHECKING:
    from upshift.record.model import Record


MAX_VALUE = 200
"""Characters kept of a header's value; what is longer is no media type and no coding."""


def complete(record: Record) -> None:
    """Read what a closed record tells of itself in headers, and let go of what it no longer needs.

    Twice changes nothing.

    Example:
        >>> from upshift.record.model import Record
        >>> record = Record("GET", "/orders/7", 0.0)
        >>> record.response_headers = [(b"content-type", b"text/html; charset=utf-8")]
        >>> complete(record)
        >>> record.content_type, record.response_headers
        ('text/html', ())
    """
    if record.statements:
        settle(record)
    request, response = record.request_headers, record.response_headers
    record.request_headers, record.response_headers = {}, ()
    if accept := request.get(b"accept-encoding"):
        record.accept_encoding = _text(accept)
    for name, value in response:  # ASGI has header names in lower case
        if name == b"content-type":
            record.content_type = _text(value).partition(";")[0].rstrip()
        elif name == b"content-encoding":
            record.content_encoding = _text(value)


def _text(value: bytes) -> str:
    return value[:MAX_VALUE].decode("latin-1").strip().lower()
