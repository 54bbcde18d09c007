"""One HTTP/1.1 connection: writes a request, waits for the whole answer, and says how it ended.

The hot path of the generator. httptools is given no header and no body callbacks: they would cost more than
the parsing (1.6 µs for four headers). The few answers that need a header's value, those that end with their
connection, have their kept head parsed a second time.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Protocol, cast

from upshift.errors import MissingExtraError

try:
    from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser
except ImportError as error:
    raise MissingExtraError("load tests", "load") from error

if TYPE_CHECKING:
    from upshift.load.tally import Failure, Tally

MAX_HEAD_BYTES = 65_536
"""A longer answer head counts as broken, as it does for browsers and proxies."""
_FIRST_STATUS = 100
_FIRST_FINAL_STATUS = 200


class Job:
    """One kind of request, made ready to be sent.

    Attributes:
        wire: its bytes.
        bodyless: whether its answers have no body whatever their headers say (HEAD).
        tally: where its answers are counted.
    """

    __slots__ = ("bodyless", "tally", "wire")

    def __init__(self, wire: bytes, tally: Tally, *, bodyless: bool) -> None:
        self.wire = wire
        self.bodyless = bodyless
        self.tally = tally


class Owner(Protocol):
    """Who is told what becomes of a connection."""

    def ready(self, connection: Connection, now: float) -> None:
        """Its answer has come, and it can take another request."""

    def closed(self, connection: Connection) -> None:
        """It is closed. The request it carried, if any, has been counted."""


class Connection(asyncio.Protocol):
    """Carries one request at a time; no pipelining, as browsers and proxies have none.

    Attributes:
        job: the request under way, or None.
        due: when that request was due, on `time.monotonic`'s clock.
        alive: whether it is open.
    """

    __slots__ = (
        "_head",
        "_in_body",
        "_keep_alive",
        "_owner",
        "_parser",
        "_received",
        "_status",
        "_transport",
        "alive",
        "due",
        "job",
    )

    _transport: asyncio.Transport

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._parser = HttpResponseParser(self)
        self.job: Job | None = None
        self.due = 0.0
        self.alive = False
        self._expect_answer()

    def _expect_answer(self) -> None:
        self._status = 0
        self._received = 0
        self._in_body = False
        self._keep_alive = False
        self._head = b""

    def send(self, job: Job, due: float) -> None:
        """Write a request that is or was due at `due`; the connection must be carrying none."""
        self.job = job
        self.due = due
        if due >= job.tally.measured_from:
            job.tally.sent += 1
        self._transport.write(job.wire)

    def fail(self, failure: Failure, now: float) -> None:
        """Give up the request under way, if any, and close: what still comes could belong to no other."""
        if self.job is not None:
            self.job.tally.failed(failure, self.due, now)
            self.job = None
        self.close()

    def close(self) -> None:
        """Close without waiting for anything. The owner hears of it later."""
        self._transport.abort()

    # What the transport calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but its bases
        self.alive = True

    def data_received(self, data: bytes) -> None:
        """Parse, and finish the request when its answer is complete."""
        job = self.job
        if job is None:  # nobody asked; nothing after it could be trusted
            self.close()
            return
        self._received += len(data)
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade):
            self.fail("protocol", time.monotonic())
            return
        if self._status:
            self._answered(job)
        elif len(self._head) < MAX_HEAD_BYTES:
            self._head += data
            if self._in_body and job.bodyless:
                self._status = self._parser.get_status_code()
                self._keep_alive = self._parser.should_keep_alive()
                self._parser = HttpResponseParser(self)  # the old one waits for a body
                self._answered(job)
        elif not self._in_body:
            self.fail("protocol", time.monotonic())

    def connection_lost(self, exc: Exception | None) -> None:
        """Finish the request under way: its answer may end here, else it broke off."""
        self.alive = False
        if self.job is not None:
            if exc is None and self._in_body and _ends_with_connection(self._head):
                self._status = self._parser.get_status_code()
                self.job.tally.answered(self._status, self.due, time.monotonic(), self._received)
                self.job = None
            else:
                self.fail("reset", time.monotonic())
        del self._parser  # it and the connection refer to each other
        self._owner.closed(self)

    def _answered(self, job: Job) -> None:
        now = time.monotonic()
        job.tally.answered(self._status, self.due, now, self._received)
        self.job = None
        if self._keep_alive:
            self._expect_answer()
            self._owner.ready(self, now)
        else:
            self.close()

    # What the parser calls.

    def on_headers_complete(self) -> None:
        """What follows is a body."""
        self._in_body = True

    def on_message_complete(self) -> None:
        """Note the status; the transport's data may go on, so the request is not finished yet."""
        status = self._parser.get_status_code()
        if _FIRST_STATUS <= status < _FIRST_FINAL_STATUS:
            self._in_body = False  # an interim answer (RFC 9110, section 15.2); the final one follows
        elif self._status or status < _FIRST_STATUS:
            raise HttpParserError("a second answer, or one without a status")
        else:
            self._status = status
            self._keep_alive = self._parser.should_keep_alive()


class _HeaderNames:
    """The header names of the last answer head in some bytes."""

    def __init__(self) -> None:
        self.names: set[bytes] = set()

    def on_message_begin(self) -> None:
        self.names.clear()

    def on_header(self, name: bytes, value: bytes) -> None:  # noqa: ARG002 - httptools gives both
        self.names.add(name.lower())


def _ends_with_connection(head: bytes) -> bool:
    """Whether the end of the connection ends the answer: it has no other framing (RFC 9112, section 6.3)."""
    headers = _HeaderNames()
    HttpResponseParser(headers).feed_data(head)
    return headers.names.isdisjoint((b"content-length", b"transfer-encoding"))
