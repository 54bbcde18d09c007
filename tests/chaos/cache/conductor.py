"""Runs several processes on one database, and stops and kills them, and their servers, at random.

Each trouble of a plan comes once, in a random order, with moments of quiet between. Some wait until the
process that they are for is within a COMMIT, where all that can go wrong does. A run ends when its plan is
done and there were enough reads, so what it has been through does not depend on how fast the machine is.
"""

from __future__ import annotations

import importlib
import os
import signal
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from contextlib import contextmanager, suppress
from random import Random
from typing import Any, NamedTuple, NoReturn

import psycopg

from .board import Board, Count
from .shop import MODELS, ROWS
from .valkey_server import Valkey
from .worker import Plan, Worker

PROCESS_TROUBLES = ("stop", "stop_committing", "kill", "kill_committing", "terminate")
REDIS_TROUBLES = ("hang", "hang_long", "empty", "drop", "restart")

QUIET = (0.05, 0.25)
"""Seconds between two troubles."""

AIM_SECONDS = 0.3
"""How long to wait for a process to commit."""

TOLD = (
    Count.READS, Count.WRITES, Count.HITS, Count.STALE, Count.REGRESSED, Count.DIRTY, Count.AMBIGUOUS,
    Count.FAILED,
)  # fmt: skip
"""What an outcome tells of what was counted."""

LIMIT = 3_600.0
"""Seconds after which a run is given up."""


class Outcome(NamedTuple):
    """What came of a run.

    Attributes:
        counts: what was counted, by name.
        oldest: the greatest age of what was read and had been followed by another version, in seconds.
        troubles: how often each trouble came.
        seconds: how long the run took.
        faults: exceptions that nobody expected.
        violations: the first of them, as lines of JSON.
    """

    counts: dict[str, int]
    oldest: float
    troubles: dict[str, int]
    seconds: float
    faults: list[str]
    violations: list[str]


class Conductor:
    """Runs the processes.

    Args:
        plan: what each of them does.
        workers: how many there are.
        redis: their Valkey; None where there is none.
    """

    def __init__(self, plan: Plan, workers: int, redis: Valkey | None = None) -> None:
        self.board = Board(len(MODELS) * ROWS)
        importlib.import_module(plan.subject)  # once, and not in each process that is forked
        self._plan = plan
        self._redis = redis
        self._random = Random()
        self._pids = [0] * workers
        self._troubles: Counter[str] = Counter()

    def run(self, troubles: Sequence[str], reads: int, *, until_violated: bool = False) -> Outcome:
        """Run until all troubles have been, and there were enough reads.

        Args:
            troubles: the names of troubles, each of which comes once.
            reads: reads at least.
            until_violated: end with the first violation.
        """
        began = time.monotonic()
        left = self._random.sample(troubles, len(troubles))
        with self._processes():
            while left or not self._has_enough(reads):
                if time.monotonic() - began > LIMIT or self._has_faults():
                    break
                if until_violated and self._is_violated():
                    break
                time.sleep(self._random.uniform(*QUIET))
                if left:
                    trouble = left.pop()
                    getattr(self, f"_{trouble}")()
                    self._troubles[trouble] += 1
            time.sleep(QUIET[1])
        folder = self._plan.folder
        violations = folder / "violations"
        return Outcome(
            {each.name.lower(): self.board.total(each) for each in TOLD},
            self.board.oldest() / 1e9,
            dict(self._troubles),
            time.monotonic() - began,
            [each.read_text() for each in sorted(folder.glob("fault-*"))],
            violations.read_text().splitlines()[:20] if violations.exists() else [],
        )

    @contextmanager
    def _processes(self) -> Any:
        for number in range(len(self._pids)):
            self._fork(number)
        try:
            yield
        finally:
            self.board.end()
            self._end()

    def _fork(self, number: int) -> None:
        pid = os.fork()
        if not pid:
            self._work(number)
        self._pids[number] = pid

    def _work(self, number: int) -> NoReturn:
        status = 1
        try:
            Worker(self.board, number, self._plan).run()
            status = 0
        except BaseException:  # noqa: BLE001 - told to who looks at the outcome
            (self._plan.folder / f"fault-{os.getpid()}").write_text(traceback.format_exc())
        finally:
            os._exit(status)

    def _end(self) -> None:
        deadline = time.monotonic() + 20
        for pid in self._pids:
            while os.waitpid(pid, os.WNOHANG) == (0, 0):
                if time.monotonic() > deadline:
                    os.kill(pid, signal.SIGUSR1)  # it tells what it waits for
                    time.sleep(1)
                    os.kill(pid, signal.SIGKILL)
                    os.waitpid(pid, 0)
                    break
                time.sleep(0.01)

    def _has_enough(self, reads: int) -> bool:
        """Whether there has been enough for the run to mean something."""
        total, is_ours = self.board.total, not self._plan.setting.peer  # others do not tell of hits
        return (
            total(Count.READS) >= reads
            and (not is_ours or total(Count.HITS) >= reads // 2)
            and (not self._plan.is_cut_short or total(Count.AMBIGUOUS) > 0)
        )

    def _is_violated(self) -> bool:
        return any(map(self.board.total, (Count.STALE, Count.REGRESSED, Count.DIRTY)))

    def _has_faults(self) -> bool:
        return any(self._plan.folder.glob("fault-*"))

    def _victim(self, *, committing: bool) -> int:
        """Return a worker, and where that is asked for when it is within a COMMIT."""
        number = self._random.randrange(len(self._pids))
        deadline = time.monotonic() + AIM_SECONDS
        while committing and not self.board.is_committing(number) and time.monotonic() < deadline:
            time.sleep(0.0001)
        if committing:
            time.sleep(self._random.choice((0, 0, 0.0005, 0.001, 0.002)))
        return number

    def _stop(self, *, committing: bool = False) -> None:
        pid = self._pids[self._victim(committing=committing)]
        os.kill(pid, signal.SIGSTOP)
        time.sleep(self._random.uniform(0.05, 0.7))
        os.kill(pid, signal.SIGCONT)

    def _stop_committing(self) -> None:
        self._stop(committing=True)

    def _kill(self, *, committing: bool = False) -> None:
        number = self._victim(committing=committing)
        os.kill(self._pids[number], signal.SIGKILL)
        os.waitpid(self._pids[number], 0)
        self._fork(number)

    def _kill_committing(self) -> None:
        self._kill(committing=True)

    def _terminate(self) -> None:
        """End a few connections of the database."""
        database = self._plan.setting.database.replace("postgresql+psycopg://", "postgresql://")
        with suppress(psycopg.Error), psycopg.connect(database, autocommit=True) as connection:
            connection.execute("""
                SELECT pg_terminate_backend(pid) FROM (
                    SELECT pid FROM pg_stat_activity
                    WHERE datname = current_database() AND pid <> pg_backend_pid()
                    ORDER BY random() LIMIT 3
                ) AS some
            """)

    def _hang(self, seconds: float = 0.3) -> None:
        assert self._redis is not None
        self._redis.stop()
        time.sleep(self._random.uniform(0.3, 1.5) * seconds)
        self._redis.go_on()

    def _hang_long(self) -> None:
        """Hang for longer than the fence lives."""
        self._hang(1.6)

    def _restart(self) -> None:
        assert self._redis is not None
        self._redis.kill()
        time.sleep(self._random.uniform(0, 0.5))
        self._redis.start()

    def _empty(self) -> None:
        assert self._redis is not None
        self._redis.empty()

    def _drop(self) -> None:
        assert self._redis is not None
        self._redis.drop_connections()
