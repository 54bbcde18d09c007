"""Calls of functions that others wrote, sync or async, and that may hang."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
from contextlib import suppress
from threading import Thread
from typing import TYPE_CHECKING, Any

from anyio import Event

if TYPE_CHECKING:
    from collections.abc import Callable


def is_async(function: Callable[..., Any]) -> bool:
    """Tell whether calling a function gives a coroutine; of an object, its `__call__` decides.

    Example:
        >>> async def ping(): ...
        >>> is_async(ping), is_async(print)
        (True, False)
    """
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004 - not whether it can be called, but how
    )


async def call(function: Callable[[], Any]) -> Any:  # noqa: ANN401 - whatever the function returns
    """Call a function and return what it returns; a sync one runs in a thread.

    What a sync one returns is awaited if it can be: `lambda: client.ping()` is sync and returns a coroutine.
    """
    result = function() if is_async(function) else await in_thread(function)
    return await result if inspect.isawaitable(result) else result


async def in_thread(function: Callable[[], Any]) -> Any:  # noqa: ANN401 - whatever the function returns
    """Run a function in a thread of its own, in the present context.

    One that hangs takes no place in the event loop's executor, where it would be waited for at the end, and
    does not keep the process from ending. Cancelled, this returns at once, and the thread goes on unheard.
    """
    over, tell = Event(), _call_soon()
    result: object = None
    fault: BaseException | None = None

    def run() -> None:
        nonlocal result, fault
        try:
            result = function()
        except StopIteration as error:  # which no coroutine can raise
            fault = RuntimeError(f"the function raised {error!r}")
        except Exception as error:  # noqa: BLE001 - whatever it is, the waiting coroutine gets it
            fault = error
        except BaseException as error:  # noqa: BLE001 - an exit is the thread's, not the event loop's
            fault = RuntimeError(f"the function raised {error!r}")
        with suppress(RuntimeError):  # the loop was closed meanwhile; nobody waits
            tell(over.set)

    context = contextvars.copy_context()
    Thread(target=context.run, args=(run,), daemon=True, name="upshift-call").start()
    await over.wait()
    if fault is not None:
        raise fault
    return result


def asyncio_loop() -> asyncio.AbstractEventLoop | None:
    """Return the running event loop; None under trio."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _call_soon() -> Callable[[Callable[[], None]], object]:
    """Return what has the present event loop call something, from any thread."""
    loop = asyncio_loop()
    if loop is not None:
        return loop.call_soon_threadsafe
    from trio.lowlevel import current_trio_token

    return current_trio_token().run_sync_soon
