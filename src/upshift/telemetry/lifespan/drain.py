"""Holds SIGTERM back from the server for a while, in which the process tells that no more should come.

A load balancer goes on sending requests until it has noticed; a server that has closed its socket by then
refuses them. So the signal is taken first, readiness ends, and the server's own handler runs after a wait.

Servers hear signals in two ways. Uvicorn (and its workers under Gunicorn) installs a handler with
`signal.signal`; there ours is put in its place. Gunicorn's `asgi` worker and Granian register a callback
with `loop.add_signal_handler`. The loop is told of a signal by a byte in a pipe, whatever handler Python
has for it; there our callback has to take the place of theirs in the loop's own table, which asyncio keeps in
`_signal_handlers`, and uvloop in an attribute that only the garbage collector sees.

In both cases what was there is put back at the end of the wait, and the signal is raised once more: the
server gets it as if it had come just then, and ends with the status that it always has.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import threading
from time import monotonic
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    Deliver = Callable[[], None]

SAME_SECONDS = 1.0
"""Within this time after the first a SIGTERM is the same one, not a second: systemd sends it to each process,
and so does the server to its workers, a moment later."""

_TERM = signal.SIGTERM

logger = logging.getLogger("upshift.telemetry")


class Drain:
    """The wait between SIGTERM and the server's own handler.

    A second SIGTERM ends the wait. SIGINT is not touched.

    Args:
        seconds: how long to wait; with 0 the server's handler runs at once.
        begin: called when the signal comes; it may run within a signal handler, and only sets a flag.

    Example:
        >>> async def end():
        ...     loop, heard = asyncio.get_running_loop(), []
        ...     loop.add_signal_handler(signal.SIGTERM, heard.append, "the server")
        ...     drain = Drain(0.01, lambda: heard.append("drain"))
        ...     drain.install()
        ...     signal.raise_signal(signal.SIGTERM)
        ...     await asyncio.sleep(0.1)
        ...     loop.remove_signal_handler(signal.SIGTERM)
        ...     return heard
        >>> asyncio.run(end())
        ['drain', 'the server']
    """

    def __init__(self, seconds: float, begin: Callable[[], None]) -> None:
        self._seconds = seconds
        self._begin = begin
        self._began: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._put_back: Callable[[], Deliver] | None = None

    @property
    def is_installed(self) -> bool:
        """Whether the signal will be held back."""
        return self._put_back is not None

    def install(self) -> None:
        """Take the place of the server's handler; call this within the event loop.

        Without effect in any thread but the main one, as no other hears signals; where SIGTERM is ignored;
        and where the handler is not Python's, and so could not be put back.
        """
        if threading.current_thread() is not threading.main_thread():
            return
        self._loop = asyncio.get_running_loop()
        table = _callbacks(self._loop)
        self._put_back = (
            _replace_handler(self._on_signal)
            if table is None
            else _replace_callback(self._loop, table, self._on_signal)
        )

    def close(self) -> None:
        """Put back what was there, and wait no longer. Calling it twice does nothing more."""
        self._give_way()

    def _on_signal(self) -> None:
        self._begin()
        if self._began is None and self._seconds:
            self._began = monotonic()
            try:
                # In a signal handler, the loop may be asleep; this wakes it.
                self._loop.call_soon_threadsafe(self._wait)
            except RuntimeError:  # it is closed
                self._pass_on()
        elif self._began is None or monotonic() - self._began >= SAME_SECONDS:
            self._pass_on()

    def _wait(self) -> None:
        if self.is_installed:
            logger.info("SIGTERM: requests are accepted for another %g s", self._seconds)
            self._timer = self._loop.call_later(self._seconds, self._pass_on)

    def _pass_on(self) -> None:
        deliver = self._give_way()
        if deliver is not None:
            deliver()

    def _give_way(self) -> Deliver | None:
        if self._timer is not None:
            self._timer.cancel()
        put_back, self._put_back = self._put_back, None
        return None if put_back is None else put_back()


def _callbacks(loop: asyncio.AbstractEventLoop) -> dict[int, Any] | None:
    """Return the loop's table of callbacks for signals, if it has one for SIGTERM."""
    tables = [getattr(loop, "_signal_handlers", None), *gc.get_referents(loop)]
    for table in tables:
        if isinstance(table, dict) and type(table.get(_TERM)).__name__ == "Handle":
            return table
    return None


def _replace_callback(
    loop: asyncio.AbstractEventLoop, table: dict[int, Any], ours: Callable[[], None]
) -> Callable[[], Deliver]:
    theirs = table[_TERM]
    loop.add_signal_handler(_TERM, ours)
    handle = table[_TERM]

    def put_back() -> Deliver:
        if table.get(_TERM) is handle:
            table[_TERM] = theirs
        return _raise

    return put_back


def _replace_handler(ours: Callable[[], None]) -> Callable[[], Deliver] | None:
    theirs = signal.getsignal(_TERM)
    if theirs is None or theirs is signal.SIG_IGN:
        return None
    is_put_back = False

    def handler(_number: int, _frame: FrameType | None) -> None:
        if is_put_back:  # somebody has wrapped this one, and goes on calling it
            deliver_to_theirs()
        else:
            ours()

    def deliver_to_theirs() -> None:
        if callable(theirs):
            theirs(_TERM, None)
        else:
            signal.signal(_TERM, theirs)
            _raise()

    def put_back() -> Deliver:
        nonlocal is_put_back
        is_put_back = True
        if signal.getsignal(_TERM) is not handler:
            return deliver_to_theirs
        signal.signal(_TERM, theirs)
        return _raise

    signal.signal(_TERM, handler)
    return put_back


def _raise() -> None:
    signal.raise_signal(_TERM)
