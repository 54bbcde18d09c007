"""Has slow statements explained while the application runs, beside it and at a bounded rate.

A statement's parameters are needed to plan it as it was planned, and they may hold anything. So they are kept
for no longer than that takes: `note` holds those of a few slow executions until their requests are over,
`take` hands them to a thread, and the thread forgets them with the answer. What is kept are trees, which hold
no values (`upshift.sql.plans.tree`).

The thread has one connection at a time, out of nobody's pool, to a server that is told to give up after
seconds; and when the server does not, the socket is shut. Whatever comes while it is busy waits in a short
queue or is dropped and counted. It ends when it has had nothing to do for a while.

As the thread is there, it also looks how the tables are kept, now and then: only catalogs and statistics are
read for that.

A plan that became worse is only known as such if the one before was seen. So when there is nothing slow, an
ordinary execution is explained now and then: whichever comes next, so the frequent ones more often.
"""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from dataclasses import dataclass
from math import inf
from queue import Empty, Full, Queue
from threading import Lock, Thread
from typing import TYPE_CHECKING

import sqlalchemy as sa

from upshift.errors import MissingExtraError, UpshiftError
from upshift.record.fork import after_fork
from upshift.sql.maintenance.tables import MAX_TABLES, TableHealth, read_tables
from upshift.sql.placeholders import Sample
from upshift.sql.plans.aside import aside_engine, deadline
from upshift.sql.plans.explain import ExplainRefusedError
from upshift.sql.plans.explanation import STATEMENT_SECONDS, explain_statement
from upshift.sql.plans.history import PlanHistory, StatementPlans

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from upshift.record import Record, Statement
    from upshift.sql.analysis.digest import Digest, Digests
    from upshift.sql.placeholders import Parameters
    from upshift.sql.plans.explanation import Explanation

MAX_NOTED = 8
"""Executions whose parameters are held until their requests are over; further ones push out the oldest."""

QUEUE = 4
"""Statements that wait for the thread; further ones are dropped."""

DEADLINE_SECONDS = 2 * STATEMENT_SECONDS
"""How long one statement may keep the thread before its connection is ended."""

IDLE_SECONDS = 30.0
"""How long the thread waits for something to do."""

MAX_ASKED = 1_000
"""Statements of which it is known when they were last asked about."""

logger = logging.getLogger("upshift.sql")


@dataclass(frozen=True, slots=True)
class Pace:
    """How often statements are explained, in seconds.

    Attributes:
        between: between two of them, on average.
        burst: how many may be explained at once after a pause.
        again: before the same slow statement is explained again.
        confirming: likewise, after its plan has changed.
        ordinary: before an ordinary execution of the same statement is explained again.
        tables: before the tables of a database are looked at again.
    """

    between: float = 10.0
    burst: int = 3
    again: float = 300.0
    confirming: float = 30.0
    ordinary: float = 1_800.0
    tables: float = 900.0


@dataclass(frozen=True, slots=True)
class _Job:
    digest: Digest
    sample: Sample
    dialect: sa.Dialect | None
    seconds: float


class PlanCapture:
    """Explains slow statements of engines, after the requests that sent them.

    Args:
        engines: the (sync) engines; an `AsyncEngine` is meant by its `sync_engine`.
        digests: tells what a statement's executions have in common.
        slow_seconds: what counts as slow.
        analyze: execute SELECTs that change nothing to measure them, instead of only planning them.
        pace: how often.
        clock: tells seconds that no clock setting moves.

    Attributes:
        least_seconds: executions that took at least this long are to be told to `note`.
        faults: times when something failed that should not.
        dropped: statements that were not explained since the thread or the database was busy or away.

    Raises:
        MissingExtraError: `analyze` is asked for, and the extra that reads statements is not installed.
    """

    def __init__(  # noqa: PLR0913 - one call site; each names what it is for
        self,
        engines: Iterable[sa.Engine],
        digests: Digests,
        *,
        slow_seconds: float,
        analyze: bool = False,
        pace: Pace | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if analyze:
            _require_reader()
        self.least_seconds = slow_seconds
        self.faults = 0
        self.dropped = 0
        self._engines = {engine.dialect: engine for engine in engines}
        self._asides: dict[sa.Dialect, sa.Engine | None] = {}
        self._digests = digests
        self._slow_seconds = slow_seconds
        self._analyze = analyze
        self._pace = pace or Pace()
        self._clock = clock
        self._tokens = float(self._pace.burst)
        self._filled_at = clock()
        self._noted: dict[Statement, tuple[Parameters, sa.Dialect]] = {}
        self._asked_at: dict[str, float] = {}
        self._history = PlanHistory()
        self._tables: dict[sa.Dialect, tuple[float, tuple[TableHealth, ...]]] = {}
        self._is_closed = False
        after_fork(self._forget)
        self._forget()

    def _forget(self) -> None:
        """At the start, and in a forked child: the thread is the parent's, and so is what waits for it."""
        self._lock = Lock()
        self._queue: Queue[_Job | None] = Queue(QUEUE)
        self._thread: Thread | None = None
        self._noted.clear()

    def note(self, statement: Statement, parameters: Parameters, dialect: sa.Dialect) -> None:
        """Hold an execution's parameters until its request is over; called on the request's way."""
        noted = self._noted
        if len(noted) >= MAX_NOTED:
            with suppress(StopIteration, KeyError, RuntimeError):  # another thread was faster
                del noted[next(iter(noted))]
        noted[statement] = (parameters, dialect)
        self.least_seconds = self._slow_seconds

    def take(self, record: Record) -> None:
        """Have the slow statements of a closed record explained, if it is their turn."""
        if not record.statements:
            return
        noted, slow_seconds = self._noted, self._slow_seconds
        for statement in record.statements:
            is_slow = statement.execute_seconds + statement.fetch_seconds >= slow_seconds
            if not is_slow and statement not in noted:
                continue
            parameters, dialect = noted.pop(statement, (None, None))
            if (is_slow or dialect is not None) and statement.error is None and statement.executions == 1:
                self._offer(statement, parameters, dialect, is_slow=is_slow)
        if self._has_tokens(self._pace.burst):
            self.least_seconds = 0.0  # nothing slow came for a while: the next execution will do

    def statements(self) -> tuple[StatementPlans, ...]:
        """Return the plans that are known, of the statement explained longest ago first."""
        return self._history.statements()

    def tables(self) -> tuple[TableHealth, ...]:
        """Return how the tables of the databases were kept when last looked at, `MAX_TABLES` at most."""
        seen = tuple(self._tables.values())
        return tuple(table for _, tables in seen for table in tables)[:MAX_TABLES]

    def close(self) -> None:
        """Explain nothing further, and let the thread end. Calling it twice does nothing more."""
        self._is_closed = True
        self._noted.clear()
        with suppress(Empty):
            while True:
                self._queue.get_nowait()
        with suppress(Full):
            self._queue.put_nowait(None)
        thread = self._thread
        if thread is not None:
            thread.join(1.0)

    def _offer(
        self,
        statement: Statement,
        parameters: Parameters,
        dialect: sa.Dialect | None,
        *,
        is_slow: bool,
    ) -> None:
        digest = self._digests.of(statement.sql)
        now = self._clock()
        if now < self._due_at(digest, is_slow=is_slow) or not self._has_tokens(1) or self._is_closed:
            return
        job = _Job(digest, Sample(statement.sql, parameters or None), dialect, statement.seconds)
        with self._lock:
            try:
                self._queue.put_nowait(job)
            except Full:
                self.dropped += 1
                return
            self._tokens -= 1.0
            if len(self._asked_at) >= MAX_ASKED:
                self._asked_at.clear()
            self._asked_at[digest.id] = now
            if self._thread is None:
                self._thread = Thread(target=self._work, name="upshift-plans", daemon=True)
                self._thread.start()

    def _due_at(self, digest: Digest, *, is_slow: bool) -> float:
        asked = self._asked_at.get(digest.id)
        if asked is None:
            return 0.0
        plans = self._history.of(digest)
        if plans is not None and plans.is_unconfirmed:
            return asked + self._pace.confirming
        return asked + (self._pace.again if is_slow else self._pace.ordinary)

    def _has_tokens(self, number: int) -> bool:
        now = self._clock()
        gained = (now - self._filled_at) / self._pace.between if self._pace.between else self._pace.burst
        self._tokens = min(self._tokens + gained, float(self._pace.burst))
        self._filled_at = now
        return self._tokens >= number

    def _work(self) -> None:
        while True:
            try:
                job = self._queue.get(timeout=IDLE_SECONDS)
            except Empty:
                job = None
            with self._lock:
                if self._is_closed or (job is None and self._queue.empty()):
                    self._thread = None
                    return
            if job is not None:
                self._explain(job)

    def _explain(self, job: _Job) -> None:
        """Ask the engine that it ran on; where nobody knows which that was, the first that can tell."""
        dialects = [job.dialect] if job.dialect in self._engines else list(self._engines)
        for dialect in dialects:
            try:
                explanation = self._ask(dialect, job.sample)
            except ExplainRefusedError:
                continue
            except (sa.exc.DBAPIError, OSError):
                self.dropped += 1
                return
            except Exception:
                self.faults += 1
                if self.faults == 1:
                    logger.exception("upshift could not explain a statement; it goes on without")
                return
            if explanation is not None:
                self._history.add(job.digest, explanation, at=time.time(), seconds=job.seconds)
                return

    def _ask(self, dialect: sa.Dialect, sample: Sample) -> Explanation | None:
        engine = self._aside(dialect)
        if engine is None:
            return None
        with deadline(engine, DEADLINE_SECONDS), engine.connect() as connection:
            explanation = explain_statement(
                connection,
                sample,
                paramstyle=dialect.paramstyle,
                analyze=self._analyze,
                with_generic=True,
            )
            if dialect.name == "postgresql":
                self._look_at_tables(connection, dialect)
            return explanation

    def _look_at_tables(self, connection: sa.Connection, dialect: sa.Dialect) -> None:
        now = self._clock()
        looked_at, known = self._tables.get(dialect, (-inf, ()))
        if now < looked_at + self._pace.tables:
            return
        self._tables[dialect] = (now, known)
        with suppress(sa.exc.DBAPIError), connection.begin():  # the plan is had all the same
            connection.exec_driver_sql(f"SET LOCAL statement_timeout = {STATEMENT_SECONDS * 1e3:.0f}")
            self._tables[dialect] = (now, read_tables(connection, measure=False))

    def _aside(self, dialect: sa.Dialect) -> sa.Engine | None:
        if dialect not in self._asides:
            engine = self._engines[dialect]
            try:
                self._asides[dialect] = aside_engine(engine)
            except UpshiftError as error:
                logger.info("no plans of %s: %s", engine.url.render_as_string(), error)
                self._asides[dialect] = None
        return self._asides[dialect]


def _require_reader() -> None:
    try:
        import upshift.sql.statement  # noqa: F401 - it needs an extra
    except ModuleNotFoundError as error:
        raise MissingExtraError('explain_slow="analyze"', "find") from error
