"""A session that alone works on a PostgreSQL database: it builds indexes, or vacuums, analyses and reindexes.

Two such works at once would wait for each other's snapshots or take each other's unfinished indexes for
remains. So each holds one advisory lock while its session lives; the server lets go of it when the session
ends, however it ends.
"""

from __future__ import annotations

import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import sqlalchemy as sa

from upshift.errors import MaintenanceError
from upshift.sql.engines import connected

if TYPE_CHECKING:
    from collections.abc import Iterator

LOCK = int.from_bytes(b"upshift!", "big")
"""The key of the advisory lock."""

LOCK_SECONDS = 10.0
"""How long a session waits for another one's end."""

_RAW = {"no_parameters": True}
_WATCH_CLIENT = "SET client_connection_check_interval = '1s'"


@contextmanager
def exclusive_session(engine: sa.Engine, settings: str) -> Iterator[sa.Connection]:
    """Open a session in autocommit mode that alone works on the database; it ends with the `with` block.

    The lock is tried again and again rather than waited for: a session that waits in the server holds a
    snapshot, and a concurrent build waits for all older snapshots. The server looks once a second whether the
    client is still there, so that a work whose client was killed ends.

    Args:
        engine: a synchronous engine for a PostgreSQL database.
        settings: SQL that sets the session's own settings, such as its timeouts.

    Raises:
        DatabaseUnavailableError: the database cannot be reached, or went away.
        MaintenanceError: another such session did not end within `LOCK_SECONDS`.
    """
    with connected(engine) as connection:
        try:
            connection.execution_options(isolation_level="AUTOCOMMIT")
            connection.exec_driver_sql(settings, execution_options=_RAW)
            with suppress(sa.exc.DBAPIError):  # before PostgreSQL 14, or on a system that cannot tell
                connection.exec_driver_sql(_WATCH_CLIENT, execution_options=_RAW)
            _lock(connection)
            yield connection
        finally:
            connection.invalidate()  # closes it: its settings and its lock must not reach the pool


def _lock(connection: sa.Connection) -> None:
    deadline = time.monotonic() + LOCK_SECONDS
    while not connection.scalar(sa.select(sa.func.pg_try_advisory_lock(LOCK))):
        if time.monotonic() > deadline:
            raise MaintenanceError(
                "Upshift builds indexes or maintains tables on this database already: let that end first"
            )
        time.sleep(0.2)
