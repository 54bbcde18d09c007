"""What the two models share: connections, timeouts, the beginning and the end of a run."""

from __future__ import annotations

import asyncio
import random
import time
from abc import ABC, abstractmethod
from array import array
from itertools import accumulate, cycle
from typing import TYPE_CHECKING, NamedTuple

from upshift.load.address import reach
from upshift.load.connection import Connection, Job
from upshift.load.plan import OpenPlan, Plan
from upshift.load.report import MAX_LAG, Counts, Report, count, nearest_rank
from upshift.load.tally import Tally

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator, Sequence

    from upshift.load.request import Request, Target
    from upshift.load.tally import Failure

_WATCH_SECONDS = 1.0


class Progress(NamedTuple):
    """How far a run has come.

    Attributes:
        seconds: since its start, warm-up included.
        completed: requests answered since the end of the warm-up.
        failed: requests that got no answer since then.
    """

    seconds: float
    completed: int
    failed: int


class Session(ABC):
    """One run of a plan against one server.

    A request is in one place at a time: due (in the model), under way (a connection's `job`), or counted (a
    tally). A run ends when its model has nothing more to send and the last connection is closed; since no
    request outlives its timeout, that is at most about one timeout after the last one came due.
    """

    def __init__(self, target: Target, plan: Plan, requests: Sequence[Request]) -> None:
        self._target = target
        self._plan = plan
        self._timeout = plan.timeout
        self._tallies = {request.name: Tally() for request in requests}
        self._jobs = _draw(
            [
                Job(request.render(target), self._tallies[request.name], bodyless=request.method == "HEAD")
                for request in requests
            ],
            [request.weight for request in requests],
            plan.seed,
        )
        self._connections: set[Connection] = set()
        self._opening = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._lags = array("d")  # by how much the generator itself was late; stays empty without a schedule
        self._over = False
        self._started = self._measured_from = self._stopped = time.monotonic()
        self._cpu_from = self._cpu_until = time.process_time()

    # What a model adds.

    @abstractmethod
    def _begin(self) -> None:
        """Start to send."""

    @abstractmethod
    def ready(self, connection: Connection, now: float) -> None:
        """Give a free connection its next request, keep it, or close it when there is no more to send."""

    @abstractmethod
    def _unavailable(self, failure: Failure, since: float, now: float) -> None:
        """A connection asked for at `since` could not be had: count a request that needed it."""

    @abstractmethod
    def _lost(self, connection: Connection) -> None:
        """A connection is closed: open another if one is needed."""

    @abstractmethod
    def _expire(self, now: float) -> None:
        """Count the requests that timed out before they had a connection."""

    @abstractmethod
    def _exhausted(self, now: float) -> bool:
        """Whether there is no more to send."""

    # The run.

    async def play(self, watch: Callable[[Progress], None] | None = None) -> None:
        """Run to the end. When cancelled: close everything, count what was under way as unfinished, leave.

        Raises:
            LoadError: the server cannot be reached at all.
        """
        self._address = await reach(self._target, self._timeout)
        loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[None] = loop.create_future()
        self._started = time.monotonic()
        self._measured_from = self._started + self._plan.warmup_seconds
        for tally in self._tallies.values():
            tally.measured_from = self._measured_from
        self._cpu_from = time.process_time()
        warm = loop.call_later(self._plan.warmup_seconds, self._warm)
        self._begin()
        self._spawn(self._supervise(watch))
        try:
            await self._ended
        finally:
            self._stopped = time.monotonic()
            self._cpu_until = time.process_time()
            warm.cancel()
            await self._close()

    def report(self, *, interrupted: bool) -> Report:
        """What was counted until the run ended or was interrupted."""
        plan = self._plan
        seconds = max(0.0, self._stopped - self._measured_from)
        if isinstance(plan, OpenPlan) and not interrupted:
            seconds = max(seconds, plan.seconds)  # the last answer comes before the last interval is over
        late = sorted(self._lags)
        lag_p99 = nearest_rank(late, 990) if late else None
        counts = count(self._tallies.values())
        return Report(
            **counts,
            url=self._target.url,
            model="open" if isinstance(plan, OpenPlan) else "closed",
            connections=plan.connections,
            asked_rate=plan.rate if isinstance(plan, OpenPlan) else None,
            achieved_rate=counts["completed"] / seconds if seconds else 0.0,
            seconds=seconds,
            lag_p99=lag_p99,
            lagging=lag_p99 is not None and lag_p99 > MAX_LAG,
            cpu_seconds=self._cpu_until - self._cpu_from,
            interrupted=interrupted,
            by_request={name: Counts(**count([tally])) for name, tally in self._tallies.items()},
        )

    def _warm(self) -> None:
        self._cpu_from = time.process_time()

    async def _supervise(self, watch: Callable[[Progress], None] | None) -> None:
        """Give up what has waited too long: one pass over all is cheaper than a timer for each request."""
        pause = min(max(self._timeout / 20, 0.001), 0.1)
        tell_at = self._started + _WATCH_SECONDS
        while True:
            await asyncio.sleep(pause)
            now = time.monotonic()
            for connection in tuple(self._connections):
                if connection.job is not None and now - connection.due >= self._timeout:
                    connection.fail("timeout", now)
            self._expire(now)
            if watch is not None and now >= tell_at:
                tell_at += _WATCH_SECONDS
                watch(self._progress(now))

    def _progress(self, now: float) -> Progress:
        tallies = self._tallies.values()
        return Progress(
            seconds=now - self._started,
            completed=sum(sum(tally.statuses.values()) for tally in tallies),
            failed=sum(sum(tally.failures.values()) for tally in tallies),
        )

    def _end_if_done(self, now: float) -> None:
        if not self._connections and not self._opening and self._exhausted(now) and not self._ended.done():
            self._ended.set_result(None)

    async def _close(self) -> None:
        self._over = True
        for connection in self._connections:
            if connection.job is not None:
                connection.job.tally.interrupted(connection.due)
                connection.job = None
            connection.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._reap)

    def _reap(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (fault := task.exception()) and not self._ended.done():
            self._ended.set_exception(fault)  # a fault of ours ends the run instead of hanging it

    # Connections.

    def _open(self, after: float = 0.0) -> None:
        """Open one more connection, `after` some seconds."""
        self._opening += 1
        self._spawn(self._open_one(after))

    async def _open_one(self, after: float) -> None:
        if after:
            await asyncio.sleep(after)
        since = time.monotonic()
        connection = Connection(self)
        failure: Failure | None = None
        try:
            async with asyncio.timeout(self._timeout):
                await self._address.connect(connection)
        except TimeoutError:
            failure = "timeout"
        except OSError:
            failure = "connect"
        else:
            failure = None if connection.alive else "reset"
        self._opening -= 1
        now = time.monotonic()
        if failure is None:
            self._connections.add(connection)
            self.ready(connection, now)
        else:
            self._unavailable(failure, since, now)
            self._end_if_done(now)

    def closed(self, connection: Connection) -> None:
        """Called by a connection that is closed, whoever closed it."""
        if not self._over and connection in self._connections:
            self._connections.discard(connection)
            self._lost(connection)
            self._end_if_done(time.monotonic())


def _draw(jobs: Sequence[Job], weights: Sequence[float], seed: int) -> Iterator[Job]:
    """The jobs in turn when their weights are equal, else drawn at random by weight; without end."""
    if len(set(weights)) == 1:
        yield from cycle(jobs)
    choose = random.Random(seed).choices  # noqa: S311 - a schedule, not a secret
    thresholds = list(accumulate(weights))
    while True:
        yield from choose(jobs, cum_weights=thresholds, k=1_000)
