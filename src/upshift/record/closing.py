"""What happens to a request's record when the request is over.

Every request is counted, but few are looked at: those with statements, those that failed or were slow, a
sample; and all of them when each has a line in the log. To keep a record for a tenth of a second costs more
than all that is counted of it, since the next request then has no warm memory to use again. So what is
counted is four numbers, which wait with those of other requests; and most records go at once.
"""

from __future__ import annotations

from math import inf, nextafter
from random import random
from typing import TYPE_CHECKING, NamedTuple

from upshift.record.backlog import SIZE, Backlog
from upshift.record.completion import complete
from upshift.record.fork import after_fork
from upshift.record.method import OTHER_METHOD, known_method
from upshift.record.model import SERVER_ERROR, is_failure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from upshift.record.keeper import Keeper
    from upshift.record.model import Record

MAX_KINDS = 10_000
"""Kinds of requests counted apart; further ones are counted as well or badly answered ones."""

OK = 200


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


class Counts(NamedTuple):
    """What is counted of some requests of one kind, a number of each in each column.

    Attributes:
        seconds: their durations.
        request_bytes: bytes that the application read of their bodies.
        response_bytes: bytes of the bodies of their responses.
        statements: statements that they sent to databases.
    """

    seconds: tuple[float, ...]
    request_bytes: tuple[int, ...]
    response_bytes: tuple[int, ...]
    statements: tuple[int, ...]


class _Tally:
    """Requests of one kind; those that take longer than `limit` are looked at, and all that failed."""

    __slots__ = ("kind", "limit")

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.limit = 0.0


_Row = tuple[_Tally, float, int, int, int]


class Closing:
    """Takes the records of requests that are over.

    Any thread may call it. A fault of a counter or a taker is logged once and counted; the others go on.

    Args:
        keeper: keeps those worth keeping, and knows what is slow.
        counters: get the numbers of some requests of one kind, and nothing else of them.
        takers: get the records with statements, those that failed, were slow, streamed, or sampled by the
            caller.
        after: called when some have been counted and taken.
        slow_request_seconds: what counts as slow on any route.
        takes_all: the takers get every record.

    Example:
        >>> from upshift.record.keeper import Keeper
        >>> from upshift.record.model import Record
        >>> from upshift.settings import RecordSettings
        >>> counted = []
        >>> close = Closing(Keeper(RecordSettings()), counters=[lambda *some: counted.append(some)])
        >>> record = Record("GET", "/orders/7", 0.0)
        >>> record.route, record.status, record.seconds = "/orders/{order_id}", 200, 0.012
        >>> close(record)
        >>> close.drain()
        >>> [(kind.route, counts.seconds) for kind, counts in counted]
        [('/orders/{order_id}', (0.012,))]
    """

    def __init__(  # noqa: PLR0913 - who gets what, all by name
        self,
        keeper: Keeper,
        *,
        counters: Iterable[Callable[[Kind, Counts], None]] = (),
        takers: Iterable[Callable[[Record], None]] = (),
        after: Iterable[Callable[[], None]] = (),
        slow_request_seconds: float = inf,
        takes_all: bool = False,
    ) -> None:
        self._keeper = keeper
        self._sample_rate = keeper.sample_rate
        self._counters = (keeper.count, *counters)
        self._slow_seconds = slow_request_seconds
        self._takes_all = takes_all
        self._tallies: dict[tuple[str, str | None, int, str | None], _Tally] = {}
        self._backlog = Backlog(takers, before=(self._count,), after=after)
        self._rows: list[_Row] = []
        after_fork(self._forget)

    @property
    def faults(self) -> int:
        """Calls of counters and takers that failed."""
        return self._backlog.faults

    def __call__(self, record: Record) -> None:
        """Count a record, keep it if it is worth it, and have it taken if it is to be."""
        tally = self._tallies.get((record.method, record.route, record.status, record.error))
        if tally is None:
            tally = self._find(record)
        seconds, statements = record.seconds, record.statements
        rows = self._rows
        count = len(statements) + record.statements_dropped
        rows.append((tally, seconds, record.request_bytes, record.response_bytes, count))
        is_long = seconds > tally.limit
        is_kept = is_long or random() < self._sample_rate  # noqa: S311 - sampling, not secrets
        is_taken = statements or is_long or self._takes_all or record.is_streamed or record.is_sampled
        if is_kept or is_taken:
            complete(record)
        if is_kept:
            self._keeper.keep(record)
        if is_taken:
            self._backlog.add(record)
        elif len(rows) >= SIZE:
            self._backlog.hand_on()
        else:
            self._backlog.remind()

    def hand_over(self, record: Record) -> None:
        """Have a record taken that is counted elsewhere."""
        self._backlog.add(record)

    def drain(self) -> None:
        """Count and hand on all that waits."""
        self._backlog.drain()

    def _find(self, record: Record) -> _Tally:
        kind = Kind(known_method(record.method), record.route, record.status, record.error)
        if len(self._tallies) >= MAX_KINDS:
            kind = Kind(OTHER_METHOD, None, SERVER_ERROR if kind.is_failed else OK, None)
        tally = self._tallies.get(kind)
        if tally is None:
            tally = self._tallies[kind] = _Tally(kind)
            self._set_limit(tally)
        return tally

    def _set_limit(self, tally: _Tally) -> None:
        if tally.kind.is_failed:
            tally.limit = -inf
        else:
            durations = self._keeper.durations_of(tally.kind.method, tally.kind.route)
            tally.limit = min(durations.slow, nextafter(self._slow_seconds, 0.0))

    def _count(self) -> None:
        rows = self._rows[:]
        del self._rows[: len(rows)]  # what others have appended meanwhile stays for the next time
        groups: dict[_Tally, list[_Row]] = {}
        for row in rows:
            groups.setdefault(row[0], []).append(row)
        for tally, group in groups.items():
            _, *columns = zip(*group, strict=True)
            counts = Counts._make(columns)
            for counter in self._counters:
                try:
                    counter(tally.kind, counts)
                except Exception as fault:  # noqa: BLE001 - whatever it is, the host goes on
                    self._backlog.note("some requests were not counted", fault)
            self._set_limit(tally)

    def _forget(self) -> None:
        """In a forked child: what waits is the parent's."""
        self._rows.clear()
