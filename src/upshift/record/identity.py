"""Who a request is: its request id, and its place in a W3C trace.

The request id is the trace id of a valid `traceparent`, or else a safe `X-Request-ID`, or else minted. A
minted request id is a trace id as well, so a request that starts a trace has one name everywhere.

Ids are minted on every request's way. The system's generator is asked for some dozens at a time, which costs
a tenth of asking for each one, and less than to write a number in hex.

Source: W3C Trace Context, https://www.w3.org/TR/trace-context/.
"""

from __future__ import annotations

import re
from os import urandom
from typing import TYPE_CHECKING, NamedTuple

from upshift.record.fork import after_fork

if TYPE_CHECKING:
    from collections.abc import Mapping

    from upshift.record.model import Record

IDENTIFYING = frozenset({b"traceparent", b"tracestate", b"x-request-id"})
"""The headers of requests by which records are identified."""

MAX_REQUEST_ID = 128
"""Characters of an `X-Request-ID` that is taken over; a longer one is as good as none."""

SPAN = slice(16, None)
"""What of an id that is minted for a trace is the id of its first span."""

_TRACEPARENT = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.DOTALL)
_LONGEST_TRACEPARENT = 512
_SAFE = re.compile(rb"[A-Za-z0-9._~:@+=/-]{1,128}")
_NO_TRACE, _NO_SPAN = b"0" * 32, b"0" * 16
_INVALID_VERSION = b"ff"
_SAMPLED = 1
_TRACESTATE = re.compile(rb"[\x20-\x7e]{1,512}")
_SIZE = 16
_BATCH = 64


class TraceParent(NamedTuple):
    """What a valid `traceparent` header says.

    Attributes:
        trace_id: 32 lower-case hex digits.
        parent_span_id: the caller's span, 16 lower-case hex digits.
        is_sampled: whether the caller may have recorded its span.
    """

    trace_id: str
    parent_span_id: str
    is_sampled: bool


def parse_traceparent(value: bytes) -> TraceParent | None:
    """Read a `traceparent` header by W3C Trace Context; None where it is not valid.

    A version above 00 may have more parts, which are ignored, as the recommendation asks.

    Example:
        >>> parse_traceparent(b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01").parent_span_id
        'b7ad6b7169203331'
        >>> parse_traceparent(b"garbage") is None
        True
    """
    if len(value) > _LONGEST_TRACEPARENT:
        return None
    match = _TRACEPARENT.fullmatch(value)
    if match is None:
        return None
    version, trace_id, parent, flags, rest = match.groups()
    if version == _INVALID_VERSION or trace_id == _NO_TRACE or parent == _NO_SPAN:
        return None
    if rest is not None and version == b"00":
        return None
    return TraceParent(trace_id.decode(), parent.decode(), bool(int(flags, 16) & _SAMPLED))


def safe_request_id(value: bytes) -> str | None:
    """Return an `X-Request-ID` that may be repeated in headers, logs and SQL comments; None if it may not.

    Example:
        >>> safe_request_id(b"checkout-7f3a"), safe_request_id(b"a b"), safe_request_id(b"x" * 1_000_000)
        ('checkout-7f3a', None, None)
    """
    if len(value) > MAX_REQUEST_ID or _SAFE.fullmatch(value) is None:
        return None
    return value.decode("ascii")


class Ids:
    """Mints ids, and gives a record its own.

    A process forked from this one mints ids of its own.

    Attributes:
        minted: ids that nobody has yet, for those whom a call of `mint` costs too much.

    Example:
        >>> ids = Ids()
        >>> first, second = ids.mint(), ids.mint()
        >>> len(first), first == second
        (32, False)
    """

    def __init__(self) -> None:
        self.minted: list[str] = []
        after_fork(self._forget)

    def _forget(self) -> None:
        """In a forked child: what was minted is the parent's."""
        self.minted.clear()

    def mint(self) -> str:
        """Return a new trace id: 32 lower-case hex digits."""
        try:
            return self.minted.pop()
        except IndexError:
            return self._mint_some()

    def mint_span(self) -> str:
        """Return a new span id: 16 lower-case hex digits."""
        return self.mint()[SPAN]

    def _mint_some(self) -> str:
        first, *others = urandom(_SIZE * _BATCH).hex("-", _SIZE).split("-")
        self.minted += others
        return first

    def identify(self, record: Record, headers: Mapping[bytes, bytes]) -> None:
        """Set the ids of a record by its request's headers: those of `IDENTIFYING`, or more."""
        parent = headers.get(b"traceparent")
        if parent and (trace := parse_traceparent(parent)):
            record.trace_id, record.parent_span_id, record.is_sampled = trace
            record.request_id = trace.trace_id
            record.span_id = self.mint_span()
            if (state := headers.get(b"tracestate")) and _TRACESTATE.fullmatch(state):
                record.trace_state = state.decode("ascii")
            return
        record.trace_id = record.request_id = trace_id = self.mint()
        record.span_id = trace_id[SPAN]
        asked = headers.get(b"x-request-id")
        if asked and (request_id := safe_request_id(asked)):
            record.request_id = request_id
