"""`AsyncWriteBehind`: the awaited forms of a write-behind."""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING, Any

from upshift.cache.functions import MISSING
from upshift.cache.writes.limits import CLOSE_SECONDS

if TYPE_CHECKING:
    from upshift.cache.writes.behind import WriteBehind
    from upshift.cache.writes.records import Key


class AsyncWriteBehind:
    """The awaited forms of a write-behind: `behind.aio`.

    Args:
        behind: the write-behind.
    """

    def __init__(self, behind: WriteBehind) -> None:
        self._behind = behind

    async def start(self) -> None:
        """Take over what was left, and begin to flush: see `WriteBehind.start`."""
        self._behind.start()

    async def put(self, key: Key, value: Any, *, timeout: float | None = None) -> None:  # noqa: ASYNC109 - as elsewhere
        """Write a value; return when it is durable: see `WriteBehind.put`.

        A call that is cancelled was not acknowledged; whether it is written nobody knows.
        """
        behind = self._behind
        request, seconds = behind.submit(key, value), behind.timeout if timeout is None else timeout
        try:
            async with asyncio.timeout(seconds):
                await asyncio.wrap_future(request.acknowledged)
        except TimeoutError:
            raise behind.late(request, seconds) from None
        finally:
            behind.let_go(request)

    async def get(self, key: Key, default: Any = MISSING) -> Any:
        """Return the value of a key: the one that waits, or what `load` reads, or `default` without that."""
        value = self._behind.waiting(key)
        if value is not MISSING:
            return value
        if self._behind.load is None:
            return default
        loaded = self._behind.load(key)
        return await loaded if inspect.isawaitable(loaded) else loaded

    async def flush(self, timeout: float | None = None) -> int:  # noqa: ASYNC109 - as elsewhere
        """Flush what waits, without delay; return how many writes wait still when the time is up."""
        return await asyncio.to_thread(self._behind.flush, timeout)

    async def close(self, timeout: float = CLOSE_SECONDS) -> int:  # noqa: ASYNC109 - as elsewhere
        """Take no writes any more, and flush what waits: see `WriteBehind.close`."""
        return await asyncio.to_thread(self._behind.close, timeout)

    async def __aenter__(self) -> WriteBehind:
        """Start."""
        self._behind.start()
        return self._behind

    async def __aexit__(self, *_: object) -> None:
        """Close."""
        await self.close()


def running_loop() -> asyncio.AbstractEventLoop | None:
    """Return the event loop that runs here; None where none does."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
