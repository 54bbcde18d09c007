"""Connections for advice: synchronous, to the database that the application uses, with limits on waiting."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from upshift.errors import DatabaseUnavailableError, IndexAdviceError, MissingExtraError
from upshift.sql.explain import first_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.ext.asyncio import AsyncEngine

CONNECT_SECONDS = 10
"""How long a connection to a PostgreSQL server that does not answer is tried."""

_IN_MEMORY = {None, "", ":memory:"}


def sync_engine_for(engine: sa.Engine | AsyncEngine) -> sa.Engine:
    """Return a synchronous engine for the database of any engine.

    A synchronous engine is returned as it is. For an asynchronous one a new engine without a pool is made
    from its URL (asyncpg becomes psycopg, aiosqlite becomes sqlite3); what was given to the asynchronous one
    besides its URL, such as `connect_args`, it does not have.

    Raises:
        MissingExtraError: psycopg is not installed.
        IndexAdviceError: the database cannot be reached by a second connection, or is of another kind.

    Example:
        >>> from sqlalchemy.ext.asyncio import create_async_engine
        >>> sync_engine_for(create_async_engine("sqlite+aiosqlite:///shop.db"))
        Engine(sqlite:///shop.db)
    """
    if isinstance(engine, sa.Engine):
        return engine
    url = engine.url
    match url.get_backend_name():
        case "sqlite" if url.database in _IN_MEMORY:
            raise IndexAdviceError("only its own connection sees an SQLite database in memory: use a file")
        case "sqlite":
            return sa.create_engine(url.set(drivername="sqlite"), poolclass=NullPool)
        case "postgresql":
            return _psycopg_engine(url)
        case name:
            raise IndexAdviceError(f"index advice knows PostgreSQL and SQLite, not {name}")


def _psycopg_engine(url: sa.URL) -> sa.Engine:
    kept = {key: value for key, value in url.query.items() if key in {"host", "port"}}
    if "ssl" in url.query:
        kept["sslmode"] = url.query["ssl"]
    try:
        return sa.create_engine(
            url.set(drivername="postgresql+psycopg", query=kept),
            poolclass=NullPool,
            connect_args={"connect_timeout": CONNECT_SECONDS},
        )
    except ModuleNotFoundError as error:
        raise MissingExtraError("a synchronous connection to PostgreSQL", "postgres") from error


@contextmanager
def connected(engine: sa.Engine) -> Iterator[sa.Connection]:
    """Connect for the length of a `with` block.

    Raises:
        DatabaseUnavailableError: the database refused the connection, or it broke inside the block.
    """
    where = engine.url.render_as_string(hide_password=True)
    try:
        connection = engine.connect()
    except sa.exc.DBAPIError as error:
        raise DatabaseUnavailableError(
            f"cannot connect to {where}: {first_line(error)}. Is the database running, and is the URL right?"
        ) from error
    with connection:
        try:
            yield connection
        except sa.exc.DBAPIError as error:
            if not error.connection_invalidated:
                raise
            raise DatabaseUnavailableError(f"lost the connection to {where}: {first_line(error)}") from error
