"""A call that goes on though nobody waits for it any more, under asyncio and under trio.

A task of anyio's ends with who began it, and these do not. Under asyncio they are cancelled once, as is usual
there: anyio cancels again and again, also what closes a connection behind the call.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from contextvars import Context
from typing import TYPE_CHECKING, Any

from anyio import CancelScope, Event
from anyio.lowlevel import current_token

from upshift.telemetry.calls import asyncio_loop, call

if TYPE_CHECKING:
    from collections.abc import Callable


class Running:
    """Calls a function, in an empty context and in the present event loop.

    Args:
        function: as `upshift.telemetry.calls.call` takes it.

    Attributes:
        event_loop: where it runs.
        cancel: cancels it.

    Example:
        >>> import asyncio
        >>> async def answer(): return 42
        >>> async def main(): return await Running(answer).result()
        >>> asyncio.run(main())
        42
    """

    def __init__(self, function: Callable[[], Any]) -> None:
        self.event_loop = current_token()
        self._over = Event()
        self._value: object = None
        self._fault: Exception | None = RuntimeError("the check was cancelled by what it called")
        loop = asyncio_loop()
        self.cancel: Callable[[], object]
        if loop is not None:
            self._task = loop.create_task(self._run(function, nullcontext()), context=Context())
            self.cancel, self._is_lost = self._task.cancel, loop.is_closed
        else:
            from trio.lowlevel import spawn_system_task

            scope = CancelScope()
            spawn_system_task(self._run, function, scope, context=Context())
            self.cancel, self._is_lost = scope.cancel, lambda: False  # trio ends all tasks before it ends

    @property
    def is_over(self) -> bool:
        """Whether it has ended, or its event loop is gone."""
        return self._over.is_set() or self._is_lost()

    async def result(self) -> object:
        """Wait for it, and return or raise what it did; to be cancelled meanwhile does not cancel it."""
        await self._over.wait()
        if self._fault is not None:
            raise self._fault
        return self._value

    async def _run(self, function: Callable[[], Any], scope: AbstractContextManager[object]) -> None:
        try:
            with scope:
                self._value = await call(function)
                self._fault = None
        except Exception as error:  # noqa: BLE001 - whatever it is, who waits gets it
            self._fault = error
        finally:
            self._over.set()
