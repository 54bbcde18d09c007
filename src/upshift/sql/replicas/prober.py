"""Asks one server again and again, on a thread of its own: whoever waits for it then is nobody else.

The thread blocks in the driver as long as the server does not answer. That it does so is seen from outside,
by `is_overdue`. An async engine is asked in an event loop that lives on that thread.
"""

from __future__ import annotations

import asyncio
import random
import threading
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING

from sqlalchemy import Engine
from sqlalchemy.util import greenlet_spawn

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.engine import Connection

LEAST_SECONDS = 0.02
"""Between two questions, however much somebody wants the answer."""

FIRST_RETRY_SECONDS = 0.1
LAST_RETRY_SECONDS = 2.0


class Prober:
    """Asks one server, until it is stopped.

    Args:
        engine: the server's (sync) engine; a connection of its own is made as the engine makes them.
        ask: asks; it is given an open connection in autocommit mode, and whether it is a new one.
        failed: is told what went wrong.
        seconds: between two questions.

    After a failure the next question comes after a time that doubles, up to two seconds, of which a random
    part is waited: the processes that share a server do not come back to it all at once.
    """

    def __init__(
        self,
        engine: Engine,
        ask: Callable[[Connection, bool], None],
        failed: Callable[[Exception], None],
        seconds: float,
    ) -> None:
        # The class's method: what may be observed at the instance does not concern this pool.
        pool = type(engine.pool).recreate(engine.pool)
        self._engine = Engine(pool, engine.dialect, engine.url)
        self._ask = ask
        self._failed = failed
        self._seconds = seconds
        self._failures = 0
        self._asked = 0.0
        self._woken = threading.Event()
        self._is_stopped = False
        self._connection: Connection | None = None
        self.thread = threading.Thread(target=self._run, name="upshift-replicas", daemon=True)

    def wake(self) -> None:
        """Ask as soon as may be."""
        self._woken.set()

    def stop(self) -> None:
        """Ask no more; a question that is on its way may still be answered."""
        self._is_stopped = True
        self._woken.set()

    def is_overdue(self, seconds: float) -> bool:
        """Whether an answer is awaited for longer than so many seconds."""
        asked = self._asked
        return bool(asked) and monotonic() - asked > seconds

    def _run(self) -> None:
        if self._engine.dialect.is_async:
            with asyncio.Runner() as runner:
                self._loop(lambda function: runner.run(_in_loop(function)))
        else:
            self._loop(lambda function: function())

    def _loop(self, call: Callable[[Callable[[], None]], None]) -> None:
        while not self._is_stopped:
            self._woken.clear()
            self._asked = started = monotonic()
            try:
                call(self._ask_once)
            except Exception as error:  # noqa: BLE001 - whatever it is, the server cannot be asked
                self._asked = 0.0
                self._failures += 1
                self._failed(error)
                with suppress(Exception):
                    call(self._drop)
            else:
                self._asked = 0.0
                self._failures = 0
            self._woken.wait(self._pause(monotonic() - started))
            if self._woken.is_set() and not self._is_stopped:
                threading.Event().wait(LEAST_SECONDS)
        with suppress(Exception):
            call(self._close)

    def _pause(self, took: float) -> float:
        if not self._failures:
            return max(LEAST_SECONDS, self._seconds - took)
        longest = min(LAST_RETRY_SECONDS, FIRST_RETRY_SECONDS * 2 ** min(self._failures, 10))
        return random.uniform(LEAST_SECONDS, longest)  # noqa: S311 - it keeps no secret

    def _ask_once(self) -> None:
        connection, is_new = self._connection, False
        if connection is None:
            connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
            self._connection, is_new = connection, True
        self._ask(connection, is_new)

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.invalidate()
            connection.close()

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._engine.dispose()


async def _in_loop(function: Callable[[], object]) -> None:
    await greenlet_spawn(function)
    await asyncio.sleep(0)  # a connection that was given up leaves its loop in the next round
