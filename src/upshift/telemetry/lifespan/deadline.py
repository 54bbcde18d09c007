"""Ends things one after the other, before a deadline, whatever they do."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

logger = logging.getLogger("upshift.telemetry")


class Ending(NamedTuple):
    """Something to be done at the end.

    Attributes:
        what: what it is, for the log: `stopping the cache`.
        call: does it.
    """

    what: str
    call: Callable[[], Coroutine[object, object, object]]


async def end_in_turn(endings: Sequence[Ending], seconds: float) -> int:
    """Run them in order and return how many failed; each failure is logged, and the next one runs.

    Each may take half of the time that is left, and the last one all of it: so one that hangs takes no
    other's turn. It is cancelled then, and not waited for. When this is cancelled itself, the one under way
    is given up, and the others are run all the same.

    Args:
        endings: what to do.
        seconds: for all together.

    Example:
        >>> async def flush(): print("flushed")
        >>> asyncio.run(end_in_turn([Ending("flushing", flush)], seconds=1))
        flushed
        0
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    faults = 0
    cancelled: asyncio.CancelledError | None = None
    for number, ending in enumerate(endings, 1):
        left = max(0.0, deadline - loop.time())
        share = left if number == len(endings) else left / 2
        task = loop.create_task(ending.call())
        try:
            await asyncio.wait({task}, timeout=share)
        except asyncio.CancelledError as cancellation:
            cancelled = cancellation
        if not task.done():
            task.cancel()
            task.add_done_callback(_ignore)
            logger.error("%s was given up after %.1f s", ending.what, loop.time() - deadline + left)
        elif task.cancelled():
            logger.error("%s was cancelled", ending.what)
        elif (error := task.exception()) is not None:
            logger.error("%s failed", ending.what, exc_info=error)
        else:
            continue
        faults += 1
    if cancelled is not None:
        raise cancelled
    return faults


def _ignore(task: asyncio.Task[object]) -> None:
    """Take what came too late, or asyncio would log that nobody did."""
    if not task.cancelled():
        task.exception()
