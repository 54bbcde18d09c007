"""A Redis as a cache uses it: from threads and event loops, with a circuit and a heartbeat.

What is to be done is written once, as a generator of *steps*: commands to ask, or something to wait for. The
generator is run to its end by `finish` with blocking sockets, or by `finish_async` on the connection of the
running loop. Within SQLAlchemy's asyncio drivers, where plain functions run in greenlets, `finish` itself
waits in the loop's way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from threading import Event
from time import monotonic, sleep
from typing import Any, TypeVar
from weakref import finalize

from sqlalchemy.util import await_only
from sqlalchemy.util.concurrency import in_greenlet

from upshift.cache.redis.async_link import AsyncLinks
from upshift.cache.redis.circuit import Circuit
from upshift.cache.redis.heart import Heart, Timing, beat_command
from upshift.cache.redis.links import SyncLinks
from upshift.cache.redis.owed import Owed
from upshift.cache.redis.scripts import Keys
from upshift.cache.redis.servers import finder_of
from upshift.cache.redis.wire import Command, Unreachable
from upshift.cache.request import note_wait
from upshift.record.fork import after_fork

_Result = TypeVar("_Result")

Step = list[Command] | Future[None] | float
"""Commands to ask, whose answers are sent back; something that another thread does; or seconds to wait."""

Steps = Generator[Step, Any, _Result]


class Remote:
    """One cache's Redis.

    Args:
        where: a URL, or a client of redis-py.
        name: the cache's name there.
        timing: how long things may take.

    Attributes:
        keys: the names of its keys.
        timing: how long things may take.
        circuit: whether it is worth asking.
        owed: what it has to be told yet.
        heart: tells that, and that this process is there.
        wake: is set to have it done at once.

    Raises:
        SettingsError: `where` is neither.
    """

    circuit: Circuit
    owed: Owed
    heart: Heart
    wake: Event

    def __init__(self, where: Any, name: str, timing: Timing | None = None) -> None:
        self.keys = Keys(name)
        self.timing = timing or Timing()
        self._finder = finder_of(where, self.keys.fence)
        self._is_beating = False
        self._begin()
        after_fork(self._begin_again)

    def start(self) -> None:
        """Begin to beat."""
        self._is_beating = True
        self.heart.start()

    def close(self) -> None:
        """End the heartbeat, and close the connections. Twice does nothing more."""
        self._is_beating = False
        self._closing()
        self._async_links.close()

    def refuse_open(self) -> None:
        """Refuse what would be asked, as asking it does, where the circuit is open.

        Raises:
            Unreachable: it is.
        """
        if self.circuit.is_open:
            raise Unreachable(f"Redis is not asked, as it failed: {self.circuit.reason}")

    def ask(self, commands: Sequence[Command]) -> list[Any]:
        """Return the answers to commands, from a thread that may block.

        Raises:
            Unreachable: they have not come, or one is an error; at once where the circuit is open.
        """
        self.refuse_open()
        began = monotonic()
        try:
            replies = self._links.ask(commands)
        except Unreachable as error:
            self.circuit.failed(began, str(error))
            if error.is_elsewhere:
                self.wake.set()  # the heartbeat looks for the right one
            raise
        finally:
            note_wait(began)
        self.circuit.succeeded()
        return replies

    async def ask_async(self, commands: Sequence[Command]) -> list[Any]:
        """Return the answers to commands, from a task of an event loop.

        Raises:
            Unreachable: they have not come, or one is an error; at once where the circuit is open.
        """
        self.refuse_open()
        began = monotonic()
        try:
            replies = await self._async_links.ask(commands)
        except Unreachable as error:
            self.circuit.failed(began, str(error))
            if error.is_elsewhere:
                self.wake.set()  # the heartbeat looks for the right one
            raise
        finally:
            note_wait(began)
        self.circuit.succeeded()
        return replies

    def finish(self, steps: Steps[_Result]) -> _Result:
        """Take steps to their end, from a function that is no coroutine."""
        if in_greenlet():
            result: _Result = await_only(self.finish_async(steps))
            return result
        try:
            step = steps.send(None)
            while True:
                try:
                    reply = self._take(step)
                except BaseException as error:  # noqa: BLE001 - it is thrown into the steps
                    step = steps.throw(error)
                else:
                    step = steps.send(reply)
        except StopIteration as end:
            value: _Result = end.value
            return value

    async def finish_async(self, steps: Steps[_Result]) -> _Result:
        """Take steps to their end, from a coroutine."""
        try:
            step = steps.send(None)
            while True:
                try:
                    # Without a coroutine between them: most steps wait for a single answer.
                    reply = await (self.ask_async(step) if isinstance(step, list) else self._wait_async(step))
                except BaseException as error:  # noqa: BLE001 - it is thrown into the steps
                    step = steps.throw(error)
                else:
                    step = steps.send(reply)
        except StopIteration as end:
            value: _Result = end.value
            return value

    def _take(self, step: Step) -> Any:
        if isinstance(step, Future):
            return step.result(self._longest_wait)
        return sleep(step) if isinstance(step, float) else self.ask(step)

    async def _wait_async(self, step: Future[None] | float) -> None:
        if isinstance(step, float):
            return await asyncio.sleep(step)
        # Shielded: one who is cancelled must not cancel what the heartbeat is going to do.
        waiting = asyncio.shield(asyncio.wrap_future(step))
        return await asyncio.wait_for(waiting, self._longest_wait)

    @property
    def _longest_wait(self) -> float:
        """Longer than the heartbeat takes to tell, or to see that nobody has to be told."""
        return self.timing.fence + self.timing.closed + self.timing.last_probe

    def _begin(self) -> None:
        keys, timing, self.wake = self.keys, self.timing, Event()
        join = partial(beat_command, keys, timing)
        self._links = SyncLinks(self._finder, join, timing.answer)
        self._async_links = AsyncLinks(self._finder, join, timing.answer)
        self.circuit = Circuit(timing.fence, timing.closed, self.wake.set)
        self.owed = Owed(timing.intent, monotonic)
        hearts = SyncLinks(self._finder, join, max(timing.answer, timing.patience))
        self.heart = Heart(hearts, keys, timing, self.circuit, self.owed, self.wake)
        self._closing = finalize(self, _end, self.heart, (self._links, hearts))

    def _begin_again(self) -> None:
        """In a forked child: leave to the parent what it has open and owes, and have a heart of its own."""
        if self._closing.alive:
            detached = self._closing.detach()
            assert detached is not None
            _end(*detached[2])  # the child's descriptors are closed; the parent's stay open
            self._begin()
            if self._is_beating:
                self.heart.start()


def _end(heart: Heart, pools: tuple[SyncLinks, ...]) -> None:
    with suppress(Exception):
        heart.stop()
        for links in pools:
            links.close()
