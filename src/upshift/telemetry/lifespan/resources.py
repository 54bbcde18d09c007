"""What lives as long as the process serves: each thing started and stopped in a task of its own.

A context manager has to be left in the task that entered it (anyio's task groups insist), and a stop that
hangs has to be let go; so each thing has a task, which enters, waits until it is to stop, and leaves.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from upshift.telemetry.calls import call

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from contextlib import AbstractAsyncContextManager

    Context = Callable[[], AbstractAsyncContextManager[Any]]
    Call = Callable[[], object] | Callable[[], Awaitable[object]]

logger = logging.getLogger("upshift.telemetry")


class Resource(NamedTuple):
    """Something to start and to stop.

    Attributes:
        name: what to call it.
        context: makes the context manager that starts and stops it.
        needs: names of what has to run while it does.
    """

    name: str
    context: Context
    needs: tuple[str, ...] = ()


def paired(start: Call | None, stop: Call | None) -> Context:
    """Make a context manager of two calls.

    A sync `start` is called in the event loop, where nothing else runs yet. A sync `stop` is called in a
    thread, so that one that hangs can be let go.
    """

    @asynccontextmanager
    async def context() -> AsyncIterator[None]:
        if start is not None:
            started = start()
            if inspect.isawaitable(started):
                await started
        try:
            yield
        finally:
            if stop is not None:
                await call(stop)

    return context


class Running:
    """A resource that was started.

    Example:
        >>> async def start_and_stop():
        ...     running = Running(Resource("clock", paired(lambda: print("tick"), lambda: print("tock"))))
        ...     await running.start()
        ...     await running.stop()
        >>> asyncio.run(start_and_stop())
        tick
        tock
    """

    def __init__(self, resource: Resource) -> None:
        self.name = resource.name
        self._context = resource.context
        self._started = asyncio.Event()
        self._stopping = asyncio.Event()
        self._task = asyncio.create_task(self._live(), name=f"upshift {resource.name}")

    async def start(self) -> None:
        """Wait until it has started; what it raises is raised here."""
        started = asyncio.create_task(self._started.wait())
        try:
            await asyncio.wait({self._task, started}, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            self._task.cancel()
            raise
        finally:
            started.cancel()
        if self._task.cancelled():
            raise RuntimeError("it was cancelled while it started")
        if self._task.done():
            self._task.result()
        self._task.add_done_callback(self._tell_early_end)

    async def stop(self) -> None:
        """Tell it to stop and wait until it has; what it raises is raised here."""
        if self._task.done():
            return  # it has ended early, which was told
        self._stopping.set()
        try:
            await asyncio.wait({self._task})
        except asyncio.CancelledError:
            self._task.cancel()
            raise
        if not self._task.cancelled():  # as all tasks are when the event loop ends; it has stopped then
            self._task.result()

    async def _live(self) -> None:
        async with self._context():
            self._started.set()
            await self._stopping.wait()

    def _tell_early_end(self, task: asyncio.Task[None]) -> None:
        if not self._stopping.is_set() and not task.cancelled():
            logger.error("%r ended while it was needed", self.name, exc_info=task.exception())
