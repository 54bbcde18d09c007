"""Ctrl-C while code of others runs: in order if that can be had soon, else without.

`find` runs an application in its own process, and the application may be where nothing reaches it: in a
thread that waits for a statement, or in a library that waits in C. So a thread of ours hears of Ctrl-C too,
by the file descriptor that the interpreter writes the numbers of signals to.
"""

from __future__ import annotations

import contextlib
import gc
import inspect
import os
import signal
import socket
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from sqlalchemy.pool import ConnectionPoolEntry

from upshift.cli import INTERRUPTED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

GRACE_SECONDS = 3.0
"""How long the application may take to stop after Ctrl-C; a second one ends it at once."""

CANCEL_SECONDS = 1.0
"""How long databases may take to be told."""


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Let Ctrl-C end the process within `GRACE_SECONDS`, and leave no statement behind on a database.

    Whatever else is done about Ctrl-C in the block, such as raising KeyboardInterrupt, is done as well. To be
    used in the main thread.
    """
    hearing, telling = socket.socketpair()
    telling.setblocking(False)
    before = signal.set_wakeup_fd(telling.fileno(), warn_on_full_buffer=False)
    threading.Thread(target=_hear, args=[hearing], name="upshift-interruption", daemon=True).start()
    try:
        yield
    finally:
        cancel_statements()
        signal.set_wakeup_fd(before)
        telling.close()


@contextlib.contextmanager
def finishing(what: str) -> Iterator[None]:
    """Let a block that cleans up end in spite of a further Ctrl-C; after that one it can be interrupted.

    Args:
        what: what the block does, for who presses it.
    """

    def warn(*_: object) -> None:
        signal.signal(signal.SIGINT, before)
        sys.stderr.write(f"upshift: {what}; a further Ctrl-C leaves them\n")

    before = signal.signal(signal.SIGINT, warn)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _hear(signals: socket.socket) -> None:
    with signals:
        while number := signals.recv(1):
            if number[0] == signal.SIGINT:
                break
        else:
            return
        threading.Thread(target=cancel_statements, daemon=True).start()
        signals.settimeout(GRACE_SECONDS)
        with contextlib.suppress(TimeoutError):
            if not signals.recv(1):
                return
    sys.stderr.write("upshift: interrupted\n")
    sys.stderr.flush()
    os._exit(INTERRUPTED)


def cancel_statements() -> None:
    """Tell databases to end the statements that this process waits for, where the drivers can.

    Most databases go on with a statement though its client is gone. Drivers of asyncio end theirs when the
    task is cancelled.
    """
    entries = [each for each in gc.get_objects() if issubclass(type(each), ConnectionPoolEntry)]
    cancels = [cancel for each in entries if each.in_use and (cancel := _cancel_of(each.driver_connection))]
    threads = [threading.Thread(target=_try, args=[cancel], daemon=True) for cancel in cancels]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + CANCEL_SECONDS
    for thread in threads:
        thread.join(max(deadline - time.monotonic(), 0.0))


def _cancel_of(connection: Any) -> Callable[[], object] | None:  # noqa: ANN401 - any driver's
    """Find psycopg's `cancel_safe`, as its `cancel` may hold up all threads; other drivers have only that."""
    cancel = getattr(connection, "cancel_safe", None) or getattr(connection, "cancel", None)
    return cancel if callable(cancel) and not inspect.iscoroutinefunction(cancel) else None


def _try(cancel: Callable[[], object]) -> None:
    with contextlib.suppress(Exception):  # the statement has just ended, or the database is gone
        cancel()
