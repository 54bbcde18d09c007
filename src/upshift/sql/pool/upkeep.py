"""Runs what pools need beside the requests, and never on their way.

A job is an iterator: each step does something and yields the seconds to wait before the next. That way it is
written once. The job of a synchronous pool has a thread; that of an asynchronous one runs in the event loop
that uses its connections, in one of SQLAlchemy's greenlets, so that it may connect and close there.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from contextlib import suppress
from contextvars import Context
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy.util import greenlet_spawn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

logger = logging.getLogger("upshift.sql")


class Job(NamedTuple):
    """What is to be run.

    Attributes:
        name: what to call its thread or its task.
        steps: begins it; yields the seconds until the next step.
        in_loop: whether it runs in the event loop.
    """

    name: str
    steps: Callable[[], Iterator[float]]
    in_loop: bool


class Upkeep:
    """Runs jobs from `start` to `stop`.

    Attributes:
        faults: jobs that ended by an exception; the first is logged.
    """

    def __init__(self, jobs: Iterable[Job]) -> None:
        self.faults = 0
        self._jobs = tuple(jobs)
        self._threads: dict[str, tuple[threading.Thread, threading.Event]] = {}
        self._tasks: dict[str, tuple[asyncio.Task[None], asyncio.AbstractEventLoop]] = {}

    def start(self) -> None:
        """Start what does not run yet; where no event loop runs, what needs one waits for another call.

        It is called again in a forked child, which has no threads, and in another event loop.
        """
        loop = None
        with suppress(RuntimeError):
            loop = asyncio.get_running_loop()
        for job in self._jobs:
            if not job.in_loop:
                self._start_thread(job)
            elif loop is not None:
                self._start_task(job, loop)

    def stop(self) -> None:
        """End all jobs, soon: none begins another step."""
        for _, ended in self._threads.values():
            ended.set()
        for task, loop in self._tasks.values():
            if not loop.is_closed():
                loop.call_soon_threadsafe(task.cancel)
        self._threads.clear()
        self._tasks.clear()

    def _start_thread(self, job: Job) -> None:
        if job.name in self._threads and self._threads[job.name][0].is_alive():
            return
        ended = threading.Event()
        thread = threading.Thread(target=self._run, args=(job, ended), name=job.name, daemon=True)
        self._threads[job.name] = thread, ended
        thread.start()

    def _start_task(self, job: Job, loop: asyncio.AbstractEventLoop) -> None:
        if job.name in self._tasks:
            task, its_loop = self._tasks[job.name]
            if its_loop is loop and not task.done():
                return
        # It may be a request that starts it, whose record is none of the job's.
        task = loop.create_task(self._run_in_loop(job), name=job.name, context=Context())
        self._tasks[job.name] = task, loop

    def _run(self, job: Job, ended: threading.Event) -> None:
        try:
            for pause in job.steps():
                if ended.wait(pause):
                    return
        except Exception as fault:  # noqa: BLE001 - whatever it is, the host goes on
            self._note(job, fault)

    async def _run_in_loop(self, job: Job) -> None:
        steps = job.steps()
        try:
            pause = 0.0
            while pause is not None:
                await asyncio.sleep(pause)
                pause = await greenlet_spawn(next, steps, None)
        except Exception as fault:  # noqa: BLE001 - whatever it is, the host goes on
            self._note(job, fault)

    def _note(self, job: Job, fault: Exception) -> None:
        self.faults += 1
        if self.faults == 1:
            logger.error("%s ended; the pool stays as it is", job.name, exc_info=fault)
