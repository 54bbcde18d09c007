"""The lines of a recording, and what of a record is in them.

A recording is JSON, one line after the other: a header, a line for each record, and an end where it was
closed in order. Texts, lines of code and classes come again and again, so a record's line defines those that
are new under a number, and refers to the others. Each line says everything by name; within one `FORMAT` names
are added, never removed and never given another meaning.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Struct, field

from upshift.record.model import ObjectLoad, Product  # noqa: TC001 - msgspec reads the types when it decodes
from upshift.record.pool import TransactionOutcome  # noqa: TC001 - likewise

FORMAT = 1
"""The version of these lines."""

MAX_LINE = 16 * 1024 * 1024
"""Bytes of a line; a longer one is not written, and not read."""

MAX_DEFINED = 16_384
"""Numbers for texts, call sites and classes each; when they are used up, they begin anew."""

MAX_SQL = 1_000_000
"""Characters kept of a statement."""

Number = Annotated[int, msgspec.Meta(ge=0, lt=MAX_DEFINED)]
"""Refers to what this line or an earlier one defines."""

MAX_COUNT = 2**40

Count = Annotated[int, msgspec.Meta(ge=0, le=MAX_COUNT)]
"""A number of bytes, rows or executions; no request has more, and their sums stay whole numbers of JSON."""

Seconds = Annotated[float, msgspec.Meta(ge=0.0, le=1e12)]
"""A duration; likewise."""

Time = Annotated[float, msgspec.Meta(ge=-1e15, le=1e15)]
"""A time of `time.perf_counter()`, which may begin anywhere."""


class Dialect(Struct, frozen=True):
    """The kind of database that an engine leads to, and how its driver writes placeholders."""

    name: str
    driver: str
    paramstyle: str


class Header(Struct, frozen=True, tag="header", tag_field="kind"):
    """The first line.

    Attributes:
        format: the version of the lines.
        upshift: the version of Upshift that wrote them.
        service: the application's name.
        pid: the process.
        started: when the recording began, in UTC (ISO 8601).
        clock: `time.perf_counter()` at that time, in seconds; records tell their times by it.
        dialects: the databases.
        keep_parameters: whether statements have their parameters.
        settings: the settings by which findings are made.
    """

    format: int
    upshift: str
    service: str
    pid: int
    started: str
    clock: Time
    dialects: tuple[Dialect, ...]
    keep_parameters: bool
    settings: dict[str, Any]


class Class(Struct, omit_defaults=True):
    """A mapped class: its name, the class it inherits from, and the columns of its key."""

    name: str
    base: Number | None = None
    key: tuple[tuple[str, str], ...] = ()


class Step(Struct, omit_defaults=True):
    """A step of a loader path: an entity or, where it has a key, a relationship of that class."""

    of: Number
    key: str | None = None
    alias: int = 0


class LazyLoadFrame(Struct, omit_defaults=True):
    """See `upshift.record.LazyLoad`."""

    relationship: str
    target: str
    cohort: int
    path: tuple[Step, ...] = ()


class StatementFrame(Struct, omit_defaults=True):
    """See `upshift.record.Statement`; `sql` and `site` are numbers."""

    sql: Number
    started: Time
    ended: Time = 0.0
    execute_seconds: Seconds = 0.0
    fetch_seconds: Seconds = 0.0
    rows: Count | None = None
    executions: Count = 1
    is_eager: bool = False
    is_bulk: bool = False
    error: str | None = None
    offset: Count = 0
    has_open_pattern: bool = False
    site: Number | None = None
    lazy_load: LazyLoadFrame | None = None
    object_load: ObjectLoad | None = None
    product: Product | None = None
    fingerprint: Count | None = None
    parameters: Any = None


class TransactionFrame(Struct, omit_defaults=True):
    """See `upshift.record.Transaction`."""

    began: Time
    ended: Time
    ending_seconds: Seconds
    outcome: TransactionOutcome
    first: Count
    after: Count
    site: Number | None = None


class HoldFrame(Struct, omit_defaults=True):
    """See `upshift.record.Hold`; statements are positions among those of the record."""

    pool: str
    asked: Time
    obtained: Time
    until: Time
    is_returned: bool
    statements: tuple[Count, ...] = ()
    transactions: tuple[TransactionFrame, ...] = ()
    began: Time = 0.0


class SocketFrame(Struct, omit_defaults=True):
    """What a WebSocket connection has beside a request, see `upshift.record.Socket`."""

    messages_received: Count = 0
    messages_sent: Count = 0
    close_code: int | None = None


class RecordFrame(Struct, omit_defaults=True, tag="record", tag_field="kind"):
    """A record, see `upshift.record.Record`; `endpoint` is the number of the line it is written at.

    Attributes:
        forget: whether all numbers begin anew with this line.
        texts: texts of statements by number, those that are new.
        sites: call sites by number, likewise, each as file, line and function.
        classes: mapped classes by number, likewise.
        is_excerpt: whether it is no request but some statements of what goes on, such as a connection.
    """

    method: str
    path: str
    started: Time
    status: int
    seconds: Seconds
    forget: bool = False
    texts: dict[Number, str] = field(default_factory=dict)
    sites: dict[Number, tuple[str, int, str]] = field(default_factory=dict)
    classes: dict[Number, Class] = field(default_factory=dict)
    statements: tuple[StatementFrame, ...] = ()
    holds: tuple[HoldFrame, ...] = ()
    socket: SocketFrame | None = None
    is_excerpt: bool = False
    endpoint: Number | None = None
    route: str | None = None
    scheme: str = "http"
    request_id: str = ""
    trace_id: str = ""
    first_byte_seconds: Seconds = 0.0
    response_bytes: Count = 0
    accept_encoding: str = ""
    cache_hits: Count = 0
    cache_seconds: Seconds = 0.0
    content_encoding: str = ""
    content_type: str = ""
    error: str | None = None
    is_streamed: bool = False
    pool_wait_seconds: Seconds = 0.0
    queue_seconds: Seconds = 0.0
    request_bytes: Count = 0
    statements_dropped: Count = 0


class Notice(Struct, tag="notice", tag_field="kind"):
    """What the writer has to say, such as how many lines were dropped."""

    text: str


class End(Struct, tag="end", tag_field="kind"):
    """The last line of a recording that was closed in order.

    Attributes:
        records: records written.
        dropped: records that were not.
    """

    records: Count
    dropped: Count


Line = RecordFrame | Notice | End | Header

STATEMENT_FIELDS = (
    "started",
    "ended",
    "execute_seconds",
    "fetch_seconds",
    "rows",
    "executions",
    "is_eager",
    "is_bulk",
    "product",
    "error",
    "offset",
    "has_open_pattern",
    "fingerprint",
)
"""What is the same in a statement and in its frame."""

RECORD_FIELDS = (
    "method",
    "path",
    "started",
    "status",
    "seconds",
    "route",
    "scheme",
    "request_id",
    "trace_id",
    "first_byte_seconds",
    "response_bytes",
    "accept_encoding",
    "cache_hits",
    "cache_seconds",
    "content_encoding",
    "content_type",
    "error",
    "is_streamed",
    "pool_wait_seconds",
    "queue_seconds",
    "request_bytes",
    "statements_dropped",
)
"""What is the same in a record and in its frame."""

SOCKET_FIELDS = ("messages_received", "messages_sent", "close_code")

LEFT_OUT = {
    "scope": "it is gone when the request is over",
    "response_headers": "they are gone when the record is complete",
    "checkouts": "likewise",
    "is_closed": "every record that is written is closed",
    "client": "an address is personal data, and no finding needs it",
    "context": "whatever the application bound to its log lines, which may be personal data",
    "span_id": "its trace tells where it belongs",
    "parent_span_id": "likewise",
    "is_sampled": "likewise",
    "trace_state": "likewise",
    "bound": "they are parameters, and are gone when the record is complete",
}
"""What of records and statements is not in a recording, and why."""
