"""A request's ids on their way out: to other services, to threads and tasks, to jobs in other processes.

What is sent is a `traceparent`, by W3C Trace Context, and an `X-Request-ID`; what comes in is validated as
that of a request is. Work that goes on beside or after a request gets a record of its own with the same ids:
the request's is closed and counted by then, and what happens later is not part of what it took.
"""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import copy_context
from functools import wraps
from inspect import iscoroutinefunction
from operator import attrgetter
from time import perf_counter
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

from upshift.record.identity import Ids, safe_request_id
from upshift.record.ongoing import Ongoing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextvars import ContextVar

    from upshift.record import Record
    from upshift.record.ongoing import Excerpt

P = ParamSpec("P")
T = TypeVar("T")

TRACEPARENT, TRACESTATE, REQUEST_ID = "traceparent", "tracestate", "X-Request-ID"


class Job(Ongoing):
    """What goes on with a request's ids, beside it, after it or in another process.

    It is never counted itself, but its statements are.

    Args:
        hand_on: takes its statements, some at a time.
    """

    __slots__ = ()

    def __init__(self, hand_on: Callable[[Excerpt], None] | None = None) -> None:
        super().__init__("JOB", "", perf_counter())
        self.hand_on = hand_on

    @classmethod
    def of(cls, record: Record, route: str | None, hand_on: Callable[[Excerpt], None] | None = None) -> Job:
        """Return a job with the ids of a record, and the route that it has by now."""
        job = cls(hand_on)
        job.path = record.path
        job.route = route
        job.request_id = record.request_id
        job.trace_id = record.trace_id
        job.span_id = record.span_id
        job.parent_span_id = record.parent_span_id
        job.is_sampled = record.is_sampled
        job.trace_state = record.trace_state
        job.context = None if record.context is None else dict(record.context)
        return job


class Propagation:
    """Hands on the ids of the request that is open.

    What is called is a child of the request's span, as calls have no span of their own; or of the caller's
    span, where no spans are exported here, so that the trace has no hole.

    Args:
        current: holds the open record.
        is_sampled: tells whether the request is traced, as far as is known: see `HeadSampling`. None where
            nothing is traced here.
        route_of: tells the route of a request that may still be open.
        hand_on: takes the statements of jobs, some at a time.

    Example:
        >>> from contextvars import ContextVar
        >>> propagation = Propagation(ContextVar("current", default=None))
        >>> caller = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
        >>> with propagation.restore(caller):
        ...     propagation.headers()["X-Request-ID"]
        '0af7651916cd43dd8448eb211c80319c'
        >>> propagation.headers()  # no request is open
        {}
    """

    def __init__(
        self,
        current: ContextVar[Record | None],
        is_sampled: Callable[[Record], bool] | None = None,
        *,
        route_of: Callable[[Record], str | None] = attrgetter("route"),
        hand_on: Callable[[Excerpt], None] | None = None,
    ) -> None:
        self._current = current
        self._is_sampled = is_sampled
        self._route_of = route_of
        self._hand_on = hand_on
        self._ids = Ids()

    def headers(self) -> dict[str, str]:
        """Return the headers that hand on the open request's ids; none where no request is open.

        They suit any client and any queue: `restore` reads them in the other process.
        """
        record = self._current.get()
        if record is None:
            return {}
        return outgoing_headers(record, is_sampled=self._is_sampled and self._is_sampled(record))

    def carry(self, function: Callable[P, T]) -> Callable[P, T]:
        """Return the function as one that runs with the present ids, whenever and in whatever thread it runs.

        A plain function gets a copy of the whole context, as `asyncio.to_thread` gives it, and may run many
        times and at once. A coroutine function gets the ids, and otherwise the context of who awaits it.
        Starlette's background tasks need none of this: they run before the request is closed.

        Where no request is open the function is returned as it is.

        Example:
            >>> from concurrent.futures import ThreadPoolExecutor
            >>> from contextvars import ContextVar
            >>> propagation = Propagation(ContextVar("current", default=None))
            >>> with propagation.restore({"X-Request-ID": "checkout-7"}), ThreadPoolExecutor() as pool:
            ...     job = pool.submit(propagation.carry(propagation.headers))
            >>> job.result()["X-Request-ID"]
            'checkout-7'
        """
        origin = self._current.get()
        if origin is None:
            return function
        if iscoroutinefunction(function):
            return cast("Callable[P, T]", self._carry_coroutine(function, origin))
        present = copy_context()

        @wraps(function)
        def carried(*args: P.args, **kwargs: P.kwargs) -> T:
            context = present.copy()  # one context cannot be entered twice at a time
            job = self._job_of(origin)
            context.run(self._current.set, job)
            try:
                return context.run(function, *args, **kwargs)
            finally:
                job.hand_on_all()

        return carried

    def _carry_coroutine(self, function: Callable[P, Any], origin: Record) -> Callable[P, Any]:
        @wraps(function)
        async def carried(*args: P.args, **kwargs: P.kwargs) -> object:
            job = self._job_of(origin)
            token = self._current.set(job)
            try:
                return await function(*args, **kwargs)
            finally:
                self._current.reset(token)
                job.hand_on_all()

        return carried

    @contextmanager
    def restore(self, headers: Mapping[str, str]) -> Iterator[None]:
        """Do what the block does with the ids that `headers` handed on, as in a job of another process.

        Ids that are missing or not valid are minted, so that the block has some in any case.

        Args:
            headers: as `headers` returned them, or of any message; names in any case.
        """
        job = Job(self._hand_on)
        given = {
            name.lower().encode("latin-1", "replace"): value.encode("latin-1", "replace")
            for name, value in headers.items()
            if isinstance(name, str) and isinstance(value, str)
        }
        self._ids.identify(job, given)
        if request_id := safe_request_id(given.get(b"x-request-id", b"")):
            job.request_id = request_id
        # No span tells of a job, so what it calls is a child of the request's.
        job.span_id = job.parent_span_id or job.span_id
        token = self._current.set(job)
        try:
            yield
        finally:
            self._current.reset(token)
            job.hand_on_all()

    def _job_of(self, origin: Record) -> Job:
        return Job.of(origin, self._route_of(origin), self._hand_on)


def outgoing_headers(record: Record, *, is_sampled: bool | None) -> dict[str, str]:
    """Return the headers that hand on a record's ids.

    Args:
        record: whose.
        is_sampled: whether the record is, or is going to be, traced; None where nothing is traced here, so
            that the caller's span and flag are handed on.

    Example:
        >>> from upshift.record import Record
        >>> record = Record("GET", "/", 0.0)
        >>> record.request_id = "checkout-7"
        >>> record.trace_id, record.span_id = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
        >>> outgoing_headers(record, is_sampled=True)["traceparent"]
        '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'
    """
    headers = {}
    if record.trace_id:
        span_id = record.span_id
        if is_sampled is None:
            span_id, is_sampled = record.parent_span_id or span_id, record.is_sampled
        headers[TRACEPARENT] = f"00-{record.trace_id}-{span_id}-{'01' if is_sampled else '00'}"
        if record.trace_state:
            headers[TRACESTATE] = record.trace_state
    if record.request_id:
        headers[REQUEST_ID] = record.request_id
    return headers
