"""What is read of a request, and made of its statements, only when its record is kept or told of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from upshift.record.model import MAX_METHOD, MAX_TEXT
from upshift.record.settling import settle

if TYPE_CHECKING:
    from upshift.record.model import Record

MAX_VALUE = 200
"""Characters kept of a header's value; what is longer is no media type and no coding."""


def complete(record: Record) -> None:
    """Read what scope and headers tell of a closed record, cut what is too long, and let go of the rest.

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
    if (scope := record.scope) is not None:
        record.scope = None
        record.method, record.path = record.method[:MAX_METHOD], record.path[:MAX_TEXT]
        record.endpoint = scope.get("endpoint")
        record.scheme = scope.get("scheme") or record.scheme
        if client := scope.get("client"):
            record.client = client[0]
        for name, value in scope.get("headers", ()):  # ASGI has header names in lower case
            if name == b"accept-encoding":
                record.accept_encoding = _text(value)
    headers, record.response_headers = record.response_headers, ()
    for name, value in headers:
        if name == b"content-type":
            record.content_type = _text(value).partition(";")[0].rstrip()
        elif name == b"content-encoding":
            record.content_encoding = _text(value)


def let_go(record: Record) -> None:
    """Let go of all that a closed record refers to, where nobody will ask what it tells.

    Example:
        >>> from upshift.record.model import Record, Statement
        >>> record = Record("GET", "/orders/7", 0.0)
        >>> record.add(Statement("SELECT 1", 0.0))
        >>> record.statements[0].bound = ("secret",)
        >>> let_go(record)
        >>> record.statements[0].bound is None
        True
    """
    record.scope = None
    record.response_headers = ()
    if record.statements:
        record.checkouts = None
        for statement in record.statements:
            statement.bound = None


def _text(value: bytes) -> str:
    return value[:MAX_VALUE].decode("latin-1").strip().lower()
