"""What an application needs while it serves: started before it, stopped after it, in the order of needs."""

from __future__ import annotations

import asyncio
import graphlib
import logging
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any

from upshift.telemetry.calls import call
from upshift.telemetry.lifespan.conversation import Conversation
from upshift.telemetry.lifespan.deadline import Ending
from upshift.telemetry.lifespan.resources import Resource, paired

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.types import ASGIApp, Receive, Scope, Send

    from upshift.settings import HealthSettings
    from upshift.telemetry.health import Phase
    from upshift.telemetry.lifespan.resources import Call, Context

logger = logging.getLogger("upshift.telemetry")


class Lifespan:
    """Starts and stops what was added to it, around an application's own lifespan.

    Each time an application starts, all is started in the order of needs, before the application is asked; if
    one fails, those that had started are stopped, and the server is told. At the end all is stopped in
    reverse order, after the application, and then what was given to `at_end` is called. SIGTERM is held back
    for `drain_seconds` meanwhile, see `upshift.telemetry.lifespan.drain`.

    Args:
        settings: `drain_seconds` and `shutdown_seconds`.
        last: called after all that was given to `at_end`.

    Attributes:
        phase: where the process is: `starting` from the server's start message on, `serving` once everything
            has started, `draining` from SIGTERM or the server's shutdown message on. Where the server has no
            lifespan, it is taken to serve.
        faults: how often something failed to stop, or was given up.

    Example:
        >>> from upshift.settings import HealthSettings
        >>> lifespan = Lifespan(HealthSettings())
        >>> lifespan.add("cache", start=lambda: print("cache"), needs=["database"])
        >>> lifespan.add("database", start=lambda: print("database"))
        >>> lifespan.order()
        ('database', 'cache')
    """

    def __init__(self, settings: HealthSettings, last: Call | None = None) -> None:
        self.settings = settings
        self.phase: Phase = "serving"
        self.faults = 0
        self._resources: dict[str, Resource] = {}
        self._last: list[Ending] = []
        self._very_last = () if last is None else (_last_call(last),)

    def add(
        self,
        name: str,
        start: Call | None = None,
        stop: Call | None = None,
        *,
        context: Context | AbstractAsyncContextManager[Any] | None = None,
        needs: Iterable[str] = (),
    ) -> None:
        """Add something to start and to stop; what is added while it runs is started the next time.

        Args:
            name: what to call it.
            start: sync or async. A sync one runs in the event loop.
            stop: sync or async. A sync one runs in a thread, as it may hang.
            context: an async context manager that does both, or what makes one each time. It is entered and
                left in one task.
            needs: names of what has to be started before it, and stopped after it; they may be added later.

        Raises:
            ValueError: the name is taken, or both calls and a context were given.
            TypeError: `needs` is one text, where it should be several.
        """
        if name in self._resources:
            raise ValueError(f"there is a {name!r} in the lifespan already")
        if context is not None and (start is not None or stop is not None):
            raise ValueError(f"{name!r} has a context; start and stop are what it does already")
        if isinstance(needs, str):
            raise TypeError(f"the needs of {name!r} are a list of names: [{needs!r}]")
        self._resources[name] = Resource(name, _factory(context, start, stop), tuple(needs))

    def at_end(self, callback: Call) -> None:
        """Call something at the very end, such as to write what is left; sync or async.

        It is called whatever happens before, also when the start failed; the first one given first.
        """
        self._last.append(_last_call(callback))

    def order(self) -> tuple[str, ...]:
        """Return the names in the order in which they are started.

        Raises:
            ValueError: they need each other in a circle, or one is needed that was not added.
        """
        for resource in self._resources.values():
            for need in resource.needs:
                if need not in self._resources:
                    known = ", ".join(self._resources)
                    raise ValueError(
                        f"{resource.name!r} needs {need!r}, which was not added; there are: {known}"
                    )
        graph = {resource.name: resource.needs for resource in self._resources.values()}
        try:
            return tuple(graphlib.TopologicalSorter(graph).static_order())
        except graphlib.CycleError as error:
            circle = " needs ".join(map(repr, reversed(error.args[1])))
            raise ValueError(f"nothing can start first: {circle}") from error

    def around(self, app: ASGIApp) -> ASGIApp:
        """Return a middleware that does this around the lifespan of an application."""

        # A coroutine function, since Uvicorn takes others for ASGI 2.
        async def middleware(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "lifespan" and self._has_work():
                await Conversation(self, app, scope, receive, send).hold()
            else:
                await app(scope, receive, send)

        return middleware

    def in_order(self) -> list[Resource]:
        """Return what is to be started, in order.

        Raises:
            ValueError: see `order`.
        """
        return [self._resources[name] for name in self.order()]

    @property
    def last_calls(self) -> tuple[Ending, ...]:
        """What is to be called at the very end."""
        return (*self._last, *self._very_last)

    def _has_work(self) -> bool:
        settings = self.settings
        if not (self._resources or self.last_calls or settings.health or settings.drain_seconds):
            return False
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            logger.warning("Upshift starts and stops nothing: this event loop is not asyncio's")
            return False
        return True


def _last_call(callback: Call) -> Ending:
    name = getattr(callback, "__qualname__", repr(callback))
    return Ending(f"the last call, {name},", lambda: call(callback))


def _factory(
    context: Context | AbstractAsyncContextManager[Any] | None, start: Call | None, stop: Call | None
) -> Context:
    if context is None:
        return paired(start, stop)
    if isinstance(context, AbstractAsyncContextManager):
        return lambda: context
    return context
