"""One process of a run: threads and tasks that read and write, until the board says that it is over.

It is forked by the conductor, which has imported all of this, so that a killed one is back in no time.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import psycopg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from .board import Board, Count, Floor
from .shop import COMMIT_SECONDS, ROLLED_BACK, Versions, fragile, some_key, spoil
from .subject import Engines, Read, Setting, Subject

SYNC_READERS = 2
GIVE_WAY = 64
"""Reads in a row before others have their turn, as a hit waits for nothing."""

BURSTS = (1, 2, 8, 100)
"""How often in a row a key is read: a value that stays is to be found before it is written again."""

TOLD = 3
"""Violations of one kind that a lane writes down."""


class Plan(NamedTuple):
    """What a worker does.

    Attributes:
        setting: what its subject is told.
        subject: the module of that.
        folder: where it writes what it finds.
        pause: seconds between two writes, at most.
        is_cut_short: whether commits are rolled back, cut off and cancelled as well.
        tasks: readers in the event loop.
        seen_bound: seconds after which what has been read may not be followed by what is older.
    """

    setting: Setting
    subject: str
    folder: Path
    pause: float = 0.03
    is_cut_short: bool = True
    tasks: int = 4
    seen_bound: float = 0.0


class Lane:
    """What one thread, or the tasks of one thread, have counted."""

    def __init__(self, board: Board, worker: int, number: int, plan: Plan) -> None:
        self.board = board
        self.plan = plan
        self.random = Random()
        self._worker = worker
        self._number = number
        self._told: Counter[str] = Counter()
        self._seen = [0] * board.rows
        self._reads = self.get(Count.READS)
        self.set(Count.COMMITTING, 0)

    def add(self, what: Count, more: int = 1) -> None:
        self.set(what, self.get(what) + more)

    def get(self, what: Count) -> int:
        return self.board.count(self._worker, self._number, what)

    def set(self, what: Count, value: int) -> None:
        self.board.set_count(self._worker, self._number, what, value)

    def acknowledge(self, versions: Versions) -> None:
        self.board.acknowledge(self._worker, versions)
        self.add(Count.WRITES)

    def judge(
        self, read: Read, rows: Sequence[int], floors: list[Floor], began: int, got: Sequence[int]
    ) -> None:
        """Compare what was read with what was known before it began."""
        self._reads += 1
        self.set(Count.READS, self._reads)
        assert len(got) == len(rows), (read.name, rows, got)
        for row, floor, version in zip(rows, floors, got, strict=True):
            if version < floor.acknowledged or version < floor.seen:
                self._note(read, row, floor, began, version)
            elif version >= ROLLED_BACK:
                self.add(Count.DIRTY)
                self._tell(read.name, row, floor, version, 0)
            elif version > self._seen[row]:
                self._seen[row] = version
                self.board.see(self._worker, {row: version})

    def fault(self) -> None:
        """Write down an exception that nobody expects."""
        (self.plan.folder / f"fault-{os.getpid()}-{self._number}").write_text(traceback.format_exc())

    def _note(self, read: Read, row: int, floor: Floor, began: int, version: int) -> None:
        if version < floor.acknowledged:
            age = self.board.age(row, version, floor.acknowledged, began)
            self.set(Count.OLDEST, max(self.get(Count.OLDEST), age))
            lease = self.plan.setting.lease
            if lease and age <= lease * 1e9:
                return
            what = Count.STALE
        else:
            age = self.board.age(row, version, floor.seen, began, of_seen=True)
            if age <= self.plan.seen_bound * 1e9:
                return
            what = Count.REGRESSED
        self.add(what)
        self._tell(f"{what.name} {read.name}", row, floor, version, age)

    def _tell(self, what: str, row: int, floor: Floor, version: int, age: int) -> None:
        self._told[what] += 1
        if self._told[what] <= TOLD:
            line = {"what": what, "row": row, "version": version, **floor._asdict(), "seconds": age / 1e9}
            with (self.plan.folder / "violations").open("a") as file:
                file.write(json.dumps(line) + "\n")


class Worker:
    """One process.

    Args:
        board: where all of them tell.
        number: its own number.
        plan: what it does.
    """

    def __init__(self, board: Board, number: int, plan: Plan) -> None:
        self._board = board
        self._number = number
        self._plan = plan
        self._engines = Engines(plan.setting.database)
        self._subject: Subject = importlib.import_module(plan.subject).open(plan.setting, self._engines)
        self._lanes = iter(range(100))

    def run(self) -> None:
        """Read and write until it is over."""
        signal.signal(signal.SIGUSR1, lambda *_: self._tell_waits())
        sys.setswitchinterval(0.0002)
        threads = [self._thread(self._write)] + [self._thread(self._read) for _ in range(SYNC_READERS)]
        threads.append(self._thread(self._count_hits))
        asyncio.run(self._in_loop())
        for each in threads:
            each.join()

    def _tell_waits(self) -> None:
        """Write down where all threads and tasks are: they do not end."""
        stacks = ["".join(traceback.format_stack(frame)) for frame in sys._current_frames().values()]
        with suppress(RuntimeError):  # the loop is over
            stacks += ["\n".join(_waits_of(task)) for task in asyncio.all_tasks()]
        told = "\n\n".join(stacks)
        (self._plan.folder / f"fault-{os.getpid()}-waits").write_text(f"it does not end:\n{told}")

    def _lane(self) -> Lane:
        return Lane(self._board, self._number, next(self._lanes), self._plan)

    def _thread(self, work: Callable[[Lane], None]) -> threading.Thread:
        lane = self._lane()

        def run() -> None:
            try:
                work(lane)
            except BaseException:  # noqa: BLE001 - told to who looks at the outcome
                lane.fault()

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        return thread

    def _count_hits(self, lane: Lane) -> None:
        before, conductor = lane.get(Count.HITS), os.getppid()
        while self._board.goes_on():
            time.sleep(0.02)
            if os.getppid() != conductor:
                os._exit(1)  # it was killed, and nobody else ends this
            lane.set(Count.HITS, before + self._subject.hits())

    def _read(self, lane: Lane) -> None:
        for number, (read, key) in enumerate(_chosen(self._subject.reads, lane.random)):
            if not self._board.goes_on():
                return
            if number % GIVE_WAY == 0:
                time.sleep(0.001)
            rows = read.rows[key]
            floors = [self._board.floor(row) for row in rows]  # first: see the board
            began = time.monotonic_ns()
            try:
                got: Any = read.call(key)
            except (DBAPIError, PoolTimeoutError):
                lane.add(Count.FAILED)
                continue
            lane.judge(read, rows, floors, began, got)

    async def _read_async(self, lane: Lane) -> None:
        for number, (read, key) in enumerate(_chosen(self._subject.reads_async, lane.random)):
            if not self._board.goes_on():
                return
            if number % GIVE_WAY == 0:
                await asyncio.sleep(0.001)
            rows = read.rows[key]
            floors = [self._board.floor(row) for row in rows]  # first: see the board
            began = time.monotonic_ns()
            answer: Any = read.call(key)
            try:
                got = await answer
            except (DBAPIError, PoolTimeoutError):
                lane.add(Count.FAILED)
                continue
            lane.judge(read, rows, floors, began, got)

    def _write(self, lane: Lane) -> None:
        random, plan, writes = lane.random, self._plan, self._subject.writes
        while writes and self._board.goes_on():
            time.sleep(random.uniform(0, plan.pause))
            chance = random.random() if plan.is_cut_short else 1.0
            try:
                with Session(self._engines.sync, expire_on_commit=False) as session:
                    if chance < 0.1:
                        spoil(session, random)
                        session.rollback()
                        continue
                    if chance < 0.2:
                        self._cut_off(session, lane)
                        continue
                    versions = random.choice(writes)(session, random)
                    lane.set(Count.COMMITTING, 1)
                    session.commit()
                self._subject.written(versions)
                lane.acknowledge(versions)
            except (DBAPIError, PoolTimeoutError):
                lane.add(Count.FAILED)
            finally:
                lane.set(Count.COMMITTING, 0)

    def _cut_off(self, session: Session, lane: Lane) -> None:
        """Commit, and end the backend or the connection while that is under way."""
        versions = fragile(session, lane.random)
        raw = session.connection().connection.driver_connection
        by_server, delay = lane.random.random() < 0.5, lane.random.uniform(0, 1.5 * COMMIT_SECONDS)
        socket_of_it = socket.socket(fileno=os.dup(raw.fileno()))
        cut = _terminate if by_server else _hear_nothing
        timer = threading.Timer(delay, cut, (self._plan.setting.database, raw.info.backend_pid, socket_of_it))
        timer.start()
        try:
            session.commit()
        except DBAPIError:
            lane.add(Count.AMBIGUOUS)
        else:
            lane.acknowledge(versions)
        timer.join()
        socket_of_it.close()
        with suppress(DBAPIError):
            session.invalidate()  # what is cut off later must not be the pool's

    async def _write_async(self, lane: Lane) -> None:
        random, plan, writes = lane.random, self._plan, self._subject.writes_async
        while writes and self._board.goes_on():
            await asyncio.sleep(random.uniform(0, plan.pause))
            chance = random.random() if plan.is_cut_short else 1.0
            try:
                async with AsyncSession(self._engines.asyncio, expire_on_commit=False) as session:
                    if chance < 0.1:
                        await session.run_sync(spoil, random)
                        await session.rollback()
                        continue
                    if chance < 0.2:
                        await self._cancelled(session, lane)
                        continue
                    versions = await session.run_sync(random.choice(writes), random)
                    lane.set(Count.COMMITTING, 1)
                    await session.commit()
                await self._subject.written_async(versions)
                lane.acknowledge(versions)
            except (DBAPIError, PoolTimeoutError):
                lane.add(Count.FAILED)
            finally:
                lane.set(Count.COMMITTING, 0)

    async def _cancelled(self, session: AsyncSession, lane: Lane) -> None:
        """Commit, and be cancelled while that is under way."""
        versions = await session.run_sync(fragile, lane.random)
        try:
            await asyncio.wait_for(session.commit(), lane.random.uniform(0, 1.5 * COMMIT_SECONDS))
        except (TimeoutError, DBAPIError):
            lane.add(Count.AMBIGUOUS)
        else:
            lane.acknowledge(versions)

    async def _in_loop(self) -> None:
        lanes = [self._lane() for _ in range(2)]

        async def guarded(work: Awaitable[None], lane: Lane) -> None:
            try:
                await work
            except BaseException:  # noqa: BLE001 - told to who looks at the outcome
                lane.fault()

        await asyncio.gather(
            guarded(self._write_async(lanes[0]), lanes[0]),
            *(guarded(self._read_async(lanes[1]), lanes[1]) for _ in range(self._plan.tasks)),
        )
        await self._subject.close()
        await self._engines.dispose()


def _chosen(reads: Sequence[Read], random: Random) -> Any:
    """Yield reads with keys, some of them again and again, for ever; none where there are none."""
    weights = [each.weight for each in reads]
    while reads:
        for read in random.choices(reads, weights, k=256):
            key = some_key(random, len(read.rows))
            for _ in range(random.choice(BURSTS)):
                yield read, key


def _waits_of(task: asyncio.Task[Any]) -> Iterator[str]:
    """Yield where a task stands, from its outermost coroutine to what that waits for in the end."""
    waiting: Any = task.get_coro()
    while waiting is not None:
        frame = getattr(waiting, "cr_frame", None) or getattr(waiting, "gi_frame", None)
        yield repr(waiting) if frame is None else f"{frame.f_code.co_qualname}, line {frame.f_lineno}"
        waiting = getattr(waiting, "cr_await", None) or getattr(waiting, "gi_yieldfrom", None)


def _terminate(database: str, backend: int, _: socket.socket) -> None:
    with suppress(psycopg.Error), psycopg.connect(_plain(database), autocommit=True) as connection:
        connection.execute("SELECT pg_terminate_backend(%s)", (backend,))


def _hear_nothing(_: str, __: int, connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RD)


def _plain(database: str) -> str:
    return database.replace("postgresql+psycopg://", "postgresql://")
