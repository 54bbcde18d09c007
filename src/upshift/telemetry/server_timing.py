"""The `Server-Timing` header: where an answer's time went, for the browser's developer tools.

Source: W3C Server Timing, https://www.w3.org/TR/server-timing/.
"""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from upshift.record import Record
    from upshift.settings import ServerTiming

ASKING = b"x-server-timing"
"""The request header, of any value, that asks for the times."""


def timing_headers(
    mode: ServerTiming,
) -> Callable[[Record, Mapping[bytes, bytes]], tuple[tuple[bytes, bytes], ...]] | None:
    """Return what gives an answer its header, or None where none is wanted.

    Args:
        mode: `off`, `asked` for requests that have the header `X-Server-Timing`, or `always`.
    """
    if mode == "off":
        return None

    def headers(record: Record, request: Mapping[bytes, bytes]) -> tuple[tuple[bytes, bytes], ...]:
        if mode == "asked" and ASKING not in request:
            return ()
        seconds = record.first_byte_seconds or perf_counter() - record.started
        return ((b"server-timing", server_timing(record, seconds).encode("ascii")),)

    return headers


def server_timing(record: Record, seconds: float) -> str:
    """Write the value of the header, in milliseconds.

    `app` is what remains when the others are taken off, so the entries add up to the whole, unless statements
    ran at the same time.

    Args:
        record: an open request.
        seconds: from its start until now.

    Example:
        >>> from upshift.record import Record
        >>> record = Record("GET", "/orders", 0.0)
        >>> record.pool_wait_seconds = 0.002
        >>> server_timing(record, 0.0125)
        'db;dur=0.0;desc="0 statements", cache;dur=0.0, queue;dur=2.0, app;dur=10.5'
    """
    statements = record.statements
    database = sum(each.execute_seconds + each.fetch_seconds for each in statements)
    queue = record.queue_seconds + record.pool_wait_seconds
    rest = max(0.0, seconds - database - queue - record.cache_seconds)
    count = len(statements) + record.statements_dropped
    return (
        f'db;dur={database * 1e3:.1f};desc="{count} statements", cache;dur={record.cache_seconds * 1e3:.1f}, '
        f"queue;dur={queue * 1e3:.1f}, app;dur={rest * 1e3:.1f}"
    )
