"""Warming: calls a cached function with arguments that will be asked for, before they are.

At most so many at once. A call that fails is counted, the first one is logged, and the others go on: a cache
that is not warm is slow, and no reason not to start.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from random import random
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple

from upshift.cache.functions import JITTER, arguments_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

logger = logging.getLogger("upshift.cache")

CONCURRENCY = 8
"""Calls at once."""


class Warmed(NamedTuple):
    """How far a function has been warmed.

    Attributes:
        calls: calls that have ended.
        failed: those of them that raised.
        seconds: since the beginning.
    """

    calls: int
    failed: int
    seconds: float


Calls = Iterable[Any] | Callable[[], Iterable[Any]]
"""The arguments of each call: one, a tuple, or a dictionary by name. Or what returns them when it is time."""

AsyncCalls = Calls | Callable[[], Awaitable[Iterable[Any]]]
"""Likewise, where what returns them may be awaited."""

Progress = Callable[[Warmed], object]
"""Is told how far it is whenever a call has ended."""


def warm(
    function: Callable[..., Any],
    calls: Calls,
    *,
    concurrency: int = CONCURRENCY,
    progress: Progress | None = None,
) -> Warmed:
    """Warm a function in threads; return when all calls have ended.

    Raises:
        TypeError: the function is awaited, see `warm_async`.
    """
    run = _Run(function, progress)
    if inspect.iscoroutinefunction(function):
        raise TypeError(f"{run.name} is awaited: await cache.aio.warm({run.name}, ...)")

    def work() -> None:
        while (call := run.next()) is not None:
            with run.counted():
                function(*call[0], **call[1])

    with run.counted(of_calls=0):
        run.calls = iter(calls() if callable(calls) else calls)
    with ThreadPoolExecutor(concurrency) as pool:
        for worker in [pool.submit(work) for _ in range(concurrency)]:
            worker.result()
    return run.finished()


async def warm_async(
    function: Callable[..., Any],
    calls: AsyncCalls,
    *,
    concurrency: int = CONCURRENCY,
    progress: Progress | None = None,
) -> Warmed:
    """Warm a function, in the event loop if it is awaited and in threads if not."""
    run, is_async = _Run(function, progress), inspect.iscoroutinefunction(function)

    async def work() -> None:
        while (call := run.next()) is not None:
            with run.counted():
                if is_async:
                    await function(*call[0], **call[1])
                else:
                    await asyncio.to_thread(function, *call[0], **call[1])

    with run.counted(of_calls=0):
        given = calls() if callable(calls) else calls
        run.calls = iter(await given if isinstance(given, Awaitable) else given)
    async with asyncio.TaskGroup() as group:
        for _ in range(concurrency):
            group.create_task(work())
    return run.finished()


@asynccontextmanager
async def warming(
    function: Callable[..., Any],
    calls: AsyncCalls,
    *,
    every: float | None,
    concurrency: int = CONCURRENCY,
    progress: Progress | None = None,
) -> AsyncIterator[None]:
    """Warm a function in the background of an `async with` block, from its beginning on."""

    async def repeat() -> None:
        while True:
            try:
                await warm_async(function, calls, concurrency=concurrency, progress=progress)
            except Exception:
                logger.exception("warming ended early")
            if every is None:
                return
            await asyncio.sleep(every * (1 - JITTER * random()))  # noqa: S311 - no secret

    task = asyncio.create_task(repeat(), name="upshift-warming")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


class _Run:
    """Calls that several workers make, in the order in which they were given.

    Attributes:
        name: the function's.
        calls: those that are left.
    """

    def __init__(self, function: Callable[..., Any], progress: Progress | None) -> None:
        self.name = getattr(function, "__qualname__", repr(function))
        self.calls: Iterator[Any] = iter(())
        self._progress = progress
        self._began = monotonic()
        self._ended = self._failed = 0
        self._lock = threading.Lock()

    def next(self) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        """Return the arguments of the next call; None when there is none."""
        with self._lock:
            try:
                return arguments_of(next(self.calls))
            except StopIteration:
                return None
            except Exception as error:  # noqa: BLE001 - what gives the calls fails: there are no more
                self.calls = iter(())
                self._fail(error)
                return None

    @contextmanager
    def counted(self, of_calls: int = 1) -> Iterator[None]:
        """Count what is done in a `with` block, and whether it fails."""
        failure = None
        try:
            yield
        except Exception as error:  # noqa: BLE001 - any of the application's
            failure = error
        with self._lock:
            self._ended += of_calls
            if failure is not None:
                self._fail(failure)
        if self._progress is not None and of_calls:
            self._progress(self._so_far())

    def finished(self) -> Warmed:
        """Say how it went, and log it."""
        warmed = self._so_far()
        logger.info(
            "warmed %s: %d calls in %.1f s, %d failed", self.name, warmed.calls, warmed.seconds, warmed.failed
        )
        return warmed

    def _fail(self, error: Exception) -> None:
        self._failed += 1
        if self._failed == 1:
            logger.warning("warming %s failed; more failures are only counted", self.name, exc_info=error)

    def _so_far(self) -> Warmed:
        return Warmed(self._ended, self._failed, monotonic() - self._began)
