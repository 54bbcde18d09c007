"""Records that go on: WebSocket connections, and jobs beside requests.

Such a record may live for days, so it keeps no statements. It hands them on, some at a time, as an `Excerpt`
that is taken like the record of a request: by whoever counts statements, and by nobody who counts requests.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from upshift.record.completion import complete
from upshift.record.model import Record

if TYPE_CHECKING:
    from collections.abc import Callable

    from upshift.record.model import Statement

SIZE = 64
"""Statements that wait for each other."""


class Excerpt(Record):
    """Some statements of a record that goes on.

    Attributes:
        method: what goes on: `WEBSOCKET` or `JOB`.
        started: when the first of them started.
    """

    __slots__ = ()


class Ongoing(Record):
    """A record that goes on.

    Attributes:
        kind: what its excerpts have for a method.
        hand_on: takes its excerpts; None where nobody does, and statements are only counted.

    Example:
        >>> from upshift.record.model import Statement
        >>> record, taken = Ongoing("GET", "/prices", 0.0), []
        >>> record.hand_on = taken.append
        >>> for number in range(SIZE + 1):
        ...     record.add(Statement("SELECT 1", float(number)))
        >>> record.hand_on_all()
        >>> [len(excerpt.statements) for excerpt in taken]
        [64, 1]
    """

    __slots__ = ("_waiting", "hand_on")

    kind = "JOB"

    def __init__(self, method: str, path: str, started: float) -> None:
        super().__init__(method, path, started)
        self.hand_on: Callable[[Excerpt], None] | None = None
        self._waiting: deque[Statement] = deque()

    def add(self, statement: Statement) -> None:
        """Count a statement, and hand on those before it when there are enough."""
        self.statements_dropped += 1
        if self.hand_on is None:
            return
        self._waiting.append(statement)
        if len(self._waiting) > SIZE:
            self.hand_on_known()

    def hand_on_known(self) -> None:
        """Hand on all statements but the last, whose rows may not have been read yet."""
        self._pass(len(self._waiting) - 1)

    def hand_on_all(self) -> None:
        """Hand on what is left, when it is over."""
        self._pass(len(self._waiting))

    def _pass(self, count: int) -> None:
        statements = []
        for _ in range(count):
            try:
                statements.append(self._waiting.popleft())
            except IndexError:  # another thread is at it
                break
        if not statements or self.hand_on is None:
            return
        excerpt = Excerpt(self.kind, self.path, statements[0].started)
        excerpt.route = self.route
        excerpt.request_id, excerpt.trace_id = self.request_id, self.trace_id
        excerpt.statements = statements
        excerpt.is_closed = True
        complete(excerpt)
        self.hand_on(excerpt)


def unless_excerpt(take: Callable[[Record], None]) -> Callable[[Record], None]:
    """Return what takes all records but excerpts."""

    def take_whole(record: Record) -> None:
        if not isinstance(record, Excerpt):
            take(record)

    return take_whole
