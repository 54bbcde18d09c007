"""What happens to a request's record when the request is over.

Every request is counted, but few are looked at: those with statements, those that failed or were slow, a
sample; and all of them when each has a line in the log. To keep a record for a tenth of a second costs more
than all that is counted of it, since the next request then has no warm memory to use again. So what is
counted is four numbers, which wait for those of other requests of its kind; and most records go at once.

Those that are taken for their statements alone are not completed either: what parameters, headers and
connections tell is asked of kept records, and in spans and recordings, which take all of them. Lines of the
log take all of them as well, but tell nothing of that.
"""

from __future__ import annotations

from math import inf, nextafter
from random import random
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple, Protocol

from upshift.record.backlog import Backlog
from upshift.record.completion import complete, let_go
from upshift.record.fork import after_fork
from upshift.record.method import OTHER_METHOD, known_method
from upshift.record.model import SERVER_ERROR, is_failure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from upshift.record.keeper import Keeper, RouteDurations
    from upshift.record.model import Record

MAX_KINDS = 10_000
"""Kinds of requests counted apart; further ones are counted as well or badly answered ones."""

MAX_ERRORS = 50
"""Classes of exceptions told apart; an application may mint them without end."""

SETTLING = 128
"""Requests of one kind between two times that their numbers are put into buckets."""

OK = 200
OTHER_ERROR = "_OTHER"


class Kind(NamedTuple):
    """What requests that are counted together have in common.

    Attributes:
        method: the HTTP method, `_OTHER` where it is none that HTTP knows.
        route: the route's template; None where no route matched.
        status: the status sent.
        error: class name of the exception that left the application; None without one.
    """

    method: str
    route: str | None
    status: int
    error: str | None

    @property
    def is_failed(self) -> bool:
        """Whether the application, and not the client, is to blame."""
        return is_failure(self.status, self.error)


class Series(Protocol):
    """Numbers that are put into buckets some dozens at a time."""

    def observe_all(self, values: Iterable[float]) -> None:
        """Add some numbers."""


class CountedSeries(NamedTuple):
    """The series in which requests of one kind are counted.

    Attributes:
        seconds: of their durations.
        request_bytes: of the bytes that the application read of their bodies.
        response_bytes: of the bytes of the bodies of their responses.
        statements: of the statements that they sent to databases.
    """

    seconds: Series
    request_bytes: Series
    response_bytes: Series
    statements: Series


NUMBERS = len(CountedSeries._fields)
FULL = SETTLING * NUMBERS


class _Tally:
    """Requests of one kind; those that take longer than `limit` are looked at, and all that failed."""

    __slots__ = ("durations", "is_failed", "limit", "series", "waiting")

    def __init__(
        self, kind: Kind, durations: RouteDurations, series: CountedSeries | None, limit: float
    ) -> None:
        self.is_failed = kind.is_failed
        self.durations = durations
        self.series = series
        self.waiting: list[float] = []
        self.settle(limit)

    def settle(self, limit: float) -> None:
        """Put what waits into buckets, and learn from what is there who is slow; `limit` is slow anywhere."""
        taken = self.waiting[:]
        del self.waiting[: len(taken)]  # what others have added meanwhile stays
        if taken:
            seconds = sorted(taken[::NUMBERS])
            self.durations.add_all(seconds)
            if self.series is not None:
                self.series.seconds.observe_all(seconds)
                for place, series in enumerate(self.series[1:], 1):
                    series.observe_all(taken[place::NUMBERS])
        self.limit = -inf if self.is_failed else min(self.durations.slow, limit)


class Closing:
    """Takes the records of requests that are over.

    Any thread may call it. A fault of a taker is logged once and counted; the others go on.

    Args:
        keeper: keeps those worth keeping, and knows what is slow.
        counted: tells the series in which requests of a kind are counted; None where nobody wants them.
        takers: get the records with statements, those that failed, were slow, streamed, or sampled by the
            caller; they are complete only where they are kept, or all are to be.
        after: called when some have been counted and taken.
        slow_request_seconds: what counts as slow on any route.
        takes_all: the takers get every record.
        completes_all: the takers get every record, and each is complete; it may be changed at any time.

    Example:
        >>> from upshift.record.keeper import Keeper
        >>> from upshift.record.model import Record
        >>> from upshift.settings import RecordSettings
        >>> keeper = Keeper(RecordSettings())
        >>> closing = Closing(keeper)
        >>> record = Record("GET", "/orders/7", 0.0)
        >>> record.route, record.status, record.seconds = "/orders/{order_id}", 200, 0.012
        >>> closing.close(record)
        >>> closing.drain()
        >>> keeper.durations()["GET /orders/{order_id}"].sum
        0.012
    """

    def __init__(  # noqa: PLR0913 - who gets what, all by name
        self,
        keeper: Keeper,
        *,
        counted: Callable[[Kind], CountedSeries] | None = None,
        takers: Iterable[Callable[[Record], None]] = (),
        after: Iterable[Callable[[], None]] = (),
        slow_request_seconds: float = inf,
        takes_all: bool = False,
        completes_all: bool = False,
    ) -> None:
        self._keeper = keeper
        self._sample_rate = keeper.sample_rate
        self._counted = counted
        self._limit = nextafter(slow_request_seconds, 0.0)
        self._takes_all = takes_all
        self.completes_all = completes_all
        self._errors: set[str] = set()
        self._tallies: dict[tuple[str, str | None, int, str | None], _Tally] = {}
        self._settling = Lock()
        self._backlog = Backlog(takers, after=after)
        after_fork(self._forget)

    @property
    def faults(self) -> int:
        """Calls of takers that failed."""
        return self._backlog.faults

    def close(self, record: Record) -> None:
        """Count a record, keep it if it is worth it, and have it taken if it is to be."""
        tally = self._tallies.get((record.method, record.route, record.status, record.error))
        if tally is None:
            tally = self._find(record)
        seconds, statements, waiting = record.seconds, record.statements, tally.waiting
        count = len(statements) + record.statements_dropped
        waiting += (seconds, record.request_bytes, record.response_bytes, count)
        if len(waiting) >= FULL:
            self._settle(tally)
        is_long = seconds > tally.limit
        is_kept = is_long or random() < self._sample_rate  # noqa: S311 - sampling, not secrets
        completes_all = self.completes_all
        takes_all = completes_all or self._takes_all
        is_taken = statements or is_long or takes_all or record.is_streamed or record.is_sampled
        if is_kept or completes_all:
            complete(record)
        elif is_taken:
            let_go(record)
        else:
            record.scope = None
            return
        if is_kept:
            self._keeper.keep(record)
        if is_taken:
            self._backlog.add(record)

    def hand_over(self, record: Record) -> None:
        """Have a record taken that is counted elsewhere."""
        self._backlog.add(record)

    def drain(self) -> None:
        """Count all requests that are over, and hand on all records that wait."""
        with self._settling:
            for tally in tuple(self._tallies.values()):
                tally.settle(self._limit)
        self._backlog.drain()

    def _find(self, record: Record) -> _Tally:
        error = record.error
        if error is not None and error not in self._errors:
            if len(self._errors) < MAX_ERRORS:
                self._errors.add(error)
            else:
                error = OTHER_ERROR
        kind = Kind(known_method(record.method), record.route, record.status, error)
        if len(self._tallies) >= MAX_KINDS:
            kind = Kind(OTHER_METHOD, None, SERVER_ERROR if kind.is_failed else OK, None)
        tally = self._tallies.get(kind)
        if tally is None:
            durations = self._keeper.durations_of(kind.method, kind.route)
            series = None if self._counted is None else self._counted(kind)
            tally = self._tallies[kind] = _Tally(kind, durations, series, self._limit)
        return tally

    def _settle(self, tally: _Tally) -> None:
        # Where somebody is at it, perhaps this very thread before a signal, it is left to the next request.
        if self._settling.acquire(blocking=False):
            try:
                tally.settle(self._limit)
            finally:
                self._settling.release()

    def _forget(self) -> None:
        """In a forked child: what waits is the parent's, and so is who may hold the lock."""
        self._settling = Lock()
        for tally in self._tallies.values():
            tally.waiting.clear()
