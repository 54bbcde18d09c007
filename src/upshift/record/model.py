"""What is kept of one request: the `Record` and its `Statement`s.

Both are plain slotted classes, written on the hot path and read after the request has ended.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from starlette.types import Scope

    from upshift.record.callsite import CallSite
    from upshift.record.pool import Checkout, Hold

MAX_STATEMENTS = 2_000
"""Statements that one record keeps in full; further ones are only counted."""

MAX_METHOD = 20
"""Characters kept of the method; servers pass on any word."""

MAX_TEXT = 2_000
"""Characters kept of the path; a hostile one cannot fill the memory that keeps records."""

INCOMPLETE = "IncompleteResponse"
"""The error of a record whose application returned before the last byte, as when the client went away."""

GONE = frozenset({"CancelledError", "ClientDisconnect", INCOMPLETE})
"""Errors by which an application learns that its client has gone; nobody of ours is to blame."""

SERVER_ERROR = 500

REQUEST_ID = b"x-request-id"
"""The header that tells a request's id."""

NO_ROUTE = "(no route)"
"""The name that all requests without a route share."""


class LazyLoad(NamedTuple):
    """The lazy load that caused a statement.

    Attributes:
        relationship: `Model.attribute`, as the reader would write it.
        target: the class that the relationship leads to.
        cohort: equal for objects that came from one result, and so could have been loaded together;
            an object loaded alone has a cohort of its own.
        path: how that object was loaded, and the relationship: SQLAlchemy's loader path of entity,
            relationship, entity, …, relationship. It goes back to the query, or only to the lazy load before.
            Of an object that no query loaded it is the relationship alone.
    """

    relationship: str
    target: str
    cohort: int
    path: tuple[Any, ...] = ()


class ObjectLoad(NamedTuple):
    """The load of one object by its primary key that caused a statement.

    Attributes:
        model: the object's class.
        reason: `get` where the application asked for it by `session.get`; `expired` where one of its
            attributes was read after a commit or a rollback had expired it; `refresh` for a
            `session.refresh`; `columns` where it lacked some, as they are deferred or the database's own.
    """

    model: str
    reason: Literal["get", "expired", "refresh", "columns"]


class Product(NamedTuple):
    """What became of a SELECT that joins collections side by side: each row of one with each of the others.

    Attributes:
        collections: their relationships, as `Model.attribute`.
        rows: the rows that were looked at, the first of the result.
        objects: the different objects in them, of all classes together.
    """

    collections: tuple[str, ...]
    rows: int
    objects: int


class Statement:
    """One execution of one SQL statement.

    Attributes:
        sql: the text as it was sent to the driver, without parameters.
        site: the application's line that caused it, or None where no application frame was found.
        started: `time.perf_counter()` at the start of the execution, in seconds.
        execute_seconds: time in the driver's execute call.
        fetch_seconds: time in the driver's fetch calls.
        ended: `time.perf_counter()` at the end of the last of those calls.
        rows: rows fetched or changed; None where the driver does not tell.
        executions: parameter sets sent (more than one for `executemany`).
        lazy_load: the lazy load that caused it, if one did.
        object_load: the load of one object that caused it, if one did; a lazy load is none.
        is_eager: whether an eager loader (`selectinload`, batching) sent it for many objects.
        is_bulk: whether SQLAlchemy sent it for a part of a list of rows that an INSERT was given.
        product: what joined eager loads made of its rows, where it has several side by side.
        error: class name of the exception that the driver raised, if it raised.
        parameters: the bound parameters; None unless keeping them was asked for.
        bound: those of a SELECT, for `upshift.record.parameters` to look at; None in a complete record.
        fingerprint: a number, equal for equal parameters of the same text in one record; None where no other
            statement of the record has the text, or they cannot be compared.
        offset: rows that its OFFSET skips, rounded down to one digit that is not zero; 0 where it has none.
        has_open_pattern: whether a parameter of its LIKE begins with a wildcard.
    """

    __slots__ = (
        "bound",
        "ended",
        "error",
        "execute_seconds",
        "executions",
        "fetch_seconds",
        "fingerprint",
        "has_open_pattern",
        "is_bulk",
        "is_eager",
        "lazy_load",
        "object_load",
        "offset",
        "parameters",
        "product",
        "rows",
        "site",
        "sql",
        "started",
    )

    def __init__(self, sql: str, started: float, site: CallSite | None = None) -> None:
        self.sql = sql
        self.started = started
        self.site = site
        self.execute_seconds = 0.0
        self.fetch_seconds = 0.0
        self.ended = started
        self.rows: int | None = None
        self.lazy_load: LazyLoad | None = None
        self.object_load: ObjectLoad | None = None
        self.error: str | None = None
        self.bound: Any = None
        self.fingerprint: int | None = None
        self.executions = 1
        self.has_open_pattern = False
        self.is_bulk = False
        self.is_eager = False
        self.offset = 0
        self.parameters: Any = None
        self.product: Product | None = None

    @property
    def seconds(self) -> float:
        """Time spent in the driver: executing and fetching."""
        return self.execute_seconds + self.fetch_seconds


class Record:
    """One HTTP request, from its first byte in to its last byte out.

    Attributes:
        scope: the ASGI scope until the request has been counted, then None.
        response_headers: those of the response, until the record is complete (`upshift.record.completion`).
        is_closed: whether the request is over; what it does later is nobody's.
        method: the HTTP method, upper case.
        path: the path asked for, without the query string.
        scheme: `http` or `https`, as the server says, once the record is complete.
        client: the client's address, as the server says, likewise; "" where it does not.
        route: the route's template (`/orders/{order_id}`); None where no route matched.
        status: the HTTP status sent; 500 where the application raised before it sent one; 0 while open.
        started: `time.perf_counter()` at the start, in seconds.
        seconds: from start to the last byte of the body; 0.0 while open.
        request_id: the id that the request's response, log lines and outgoing calls carry.
        trace_id: the W3C trace it belongs to, 32 hex digits; "" where it belongs to none.
        span_id: its own span in that trace, 16 hex digits; "" without a trace.
        parent_span_id: the caller's span, 16 hex digits; "" where there is none.
        is_sampled: whether the caller recorded its span; None where it did not say.
        trace_state: the caller's `tracestate`, which goes with its trace; "" where there is none.
        request_bytes: bytes of the request body that the application read.
        is_streamed: whether the body was sent in more than one piece.
        first_byte_seconds: from start to the first byte of the answer; 0.0 until then.
        pool_wait_seconds: time spent waiting for a connection of an engine's pool.
        queue_seconds: time spent waiting to be admitted, before the application was asked.
        cache_seconds: time spent in caches.
        cache_hits: how often a cache had the answer.
        response_bytes: bytes of the response body as they left the recorder.
        content_type: the response's media type without parameters, lower case; "" if it has none.
        content_encoding: the response's content coding, lower case; "" if it has none.
        accept_encoding: the request's Accept-Encoding header; "" if it has none.
        endpoint: the function that the route leads to, where the framework tells, likewise.
        statements: the statements executed, in order, at most `MAX_STATEMENTS` of them.
        statements_dropped: statements beyond that bound.
        checkouts: the connections on which statements were sent, until the record is complete.
        holds: what became of them, once it is; see `upshift.record.pool`.
        error: class name of the exception that left the application, if one did; `IncompleteResponse` where
            it returned before the last byte was sent.
        context: what the application wants said in the log lines of this request; None until it does.
    """

    # What is asked of every request is in slots; what few have is the class's until it is set. To set all in
    # each record takes some tenths of a microsecond of every request, and half as much memory again; to ask
    # for what is the class's takes four times what a slot does.
    __slots__ = (
        "__dict__",
        "error",
        "first_byte_seconds",
        "is_closed",
        "is_sampled",
        "is_streamed",
        "method",
        "path",
        "request_bytes",
        "request_id",
        "response_bytes",
        "response_headers",
        "route",
        "scope",
        "seconds",
        "span_id",
        "started",
        "statements",
        "statements_dropped",
        "status",
        "trace_id",
    )

    accept_encoding = ""
    cache_hits = 0
    cache_seconds = 0.0
    checkouts: list[Checkout] | None = None
    client = ""
    content_encoding = ""
    content_type = ""
    context: dict[str, Any] | None = None
    endpoint: Callable[..., Any] | None = None
    holds: tuple[Hold, ...] = ()
    parent_span_id = ""
    pool_wait_seconds = 0.0
    queue_seconds = 0.0
    scheme = "http"
    trace_state = ""

    def __init__(self, method: str, path: str, started: float, scope: Scope | None = None) -> None:
        self.method = method
        self.path = path
        self.started = started
        self.scope = scope
        self.response_headers: Iterable[tuple[bytes, bytes]] = ()
        self.is_closed = False
        self.is_sampled: bool | None = None
        self.is_streamed = False
        self.route: str | None = None
        self.status = 0
        self.error: str | None = None
        self.request_id = ""
        self.trace_id = ""
        self.span_id = ""
        self.first_byte_seconds = 0.0
        self.seconds = 0.0
        self.request_bytes = 0
        self.response_bytes = 0
        self.statements: list[Statement] = []
        self.statements_dropped = 0

    @property
    def operation(self) -> str:
        """Method and route template, the name that requests of one kind share."""
        return f"{self.method} {self.route or NO_ROUTE}"

    @property
    def is_failed(self) -> bool:
        """Whether the application is to blame, and not the client; cheaper to ask when there is an error."""
        return is_failure(self.status, self.error)

    @property
    def answer_seconds(self) -> float:
        """How long the client waited: to the last byte, and of a stream, to the first.

        A stream may go on for hours and is not slow for that. It is never more than `seconds`, which is
        cheaper to ask first.
        """
        return self.first_byte_seconds if self.is_streamed else self.seconds

    def add(self, statement: Statement) -> None:
        """Keep a statement, or count it when the record is full; a closed record has been counted itself."""
        if self.is_closed:
            return
        if len(self.statements) < MAX_STATEMENTS:
            self.statements.append(statement)
        else:
            self.statements_dropped += 1

    def bind(self, **fields: object) -> None:
        """Have fields said in all log lines of this request from now on, and in its access line."""
        self.context = {**(self.context or {}), **fields}


def is_failure(status: int, error: str | None) -> bool:
    """Whether a request with this status and error failed; a client that went away is no failure."""
    return status >= SERVER_ERROR or (error is not None and error not in GONE)
