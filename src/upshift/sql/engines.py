"""Connections for advice: synchronous, to the database that the application uses, with limits on waiting."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from upshift.errors import (
    DatabaseUnavailableError,
    IndexAdviceError,
    MissingExtraError,
    SettingsError,
)
from upshift.sql.plans.explain import first_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.ext.asyncio import AsyncEngine

CONNECT_SECONDS = 10
"""How long a connection to a PostgreSQL server that does not answer is tried."""

OWN = {"upshift_own": True}
"""Execution options of each engine that Upshift makes for itself, to tell it from an application's."""

_IN_MEMORY = {None, "", ":memory:"}


def engine_for(url: str | sa.URL) -> sa.Engine:
    """Return a synchronous engine without a pool for a database URL, whichever driver the URL names.

    PostgreSQL is reached through psycopg unless the URL names psycopg2, SQLite through sqlite3.

    Raises:
        MissingExtraError: psycopg is not installed.
        SettingsError: the URL is none.
        IndexAdviceError: it leads to no PostgreSQL or SQLite database.

    Example:
        >>> engine_for("sqlite+aiosqlite:///shop.db")
        Engine(sqlite:///shop.db)
    """
    try:
        url = sa.make_url(url)
    except (sa.exc.ArgumentError, ValueError) as error:  # a port that is no number is a ValueError
        raise SettingsError(
            "the database URL cannot be read; it looks like postgresql://user:password@host/database"
        ) from error
    match url.get_backend_name():
        case "sqlite":
            url = url.set(drivername="sqlite")
            return sa.create_engine(url, poolclass=NullPool, execution_options=OWN)
        case "postgresql" | "postgres":
            return _postgres_engine(url)
        case name:
            raise IndexAdviceError(f"index advice knows PostgreSQL and SQLite, not {name}")


def is_own(engine: sa.Engine) -> bool:
    """Whether Upshift has made an engine for itself.

    Example:
        >>> is_own(engine_for("sqlite:///shop.db")), is_own(sa.create_engine("sqlite:///shop.db"))
        (True, False)
    """
    return bool(engine.get_execution_options().get("upshift_own"))


def sync_engine_for(engine: sa.Engine | AsyncEngine) -> sa.Engine:
    """Return a synchronous engine for the database of any engine.

    A synchronous engine is returned as it is. For an asynchronous one a new engine is made from its URL;
    what it was given besides the URL, such as `connect_args`, the new one does not have.

    Raises:
        MissingExtraError: psycopg is not installed.
        IndexAdviceError: no second connection can reach the database, or it is of another kind.

    Example:
        >>> from sqlalchemy.ext.asyncio import create_async_engine
        >>> sync_engine_for(create_async_engine("sqlite+aiosqlite:///shop.db"))
        Engine(sqlite:///shop.db)
    """
    if isinstance(engine, sa.Engine):
        return engine
    if engine.dialect.name == "sqlite" and engine.url.database in _IN_MEMORY:
        raise IndexAdviceError("only its own connection sees an SQLite database in memory: use a file")
    return engine_for(engine.url)


def _postgres_engine(url: sa.URL) -> sa.Engine:
    if url.drivername != "postgresql+psycopg2":
        if "asyncpg" in url.drivername:  # its options are its own but for these
            options = {key: value for key, value in url.query.items() if key in {"host", "port"}}
            url = url.set(query=options | ({"sslmode": url.query["ssl"]} if "ssl" in url.query else {}))
        url = url.set(drivername="postgresql+psycopg")
    try:
        waits = {"connect_timeout": CONNECT_SECONDS}
        return sa.create_engine(url, poolclass=NullPool, connect_args=waits, execution_options=OWN)
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
