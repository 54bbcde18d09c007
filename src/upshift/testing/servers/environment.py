"""A server that runs already, where the environment names one; else an embedded one."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from upshift.errors import ServerUnavailableError
from upshift.testing.servers.postgres_server import postgres
from upshift.testing.servers.valkey_server import valkey

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def database_url(*, driver: str | None = None) -> Iterator[str]:
    """The URL of the database that DATABASE_URL names, or of one in an embedded PostgreSQL, for the block.

    Args:
        driver: "psycopg" or "asyncpg"; replaces the one that DATABASE_URL may name.

    Raises:
        ServerUnavailableError: DATABASE_URL is no URL of a PostgreSQL, or the embedded one did not start.
    """
    named = os.environ.get("DATABASE_URL")
    if named:
        yield _with_driver(named, driver)
    else:
        with postgres() as server:
            yield server.url(driver=driver)


@contextlib.contextmanager
def redis_url() -> Iterator[str]:
    """The URL that REDIS_URL holds, or that of an embedded Valkey, for the block.

    Raises:
        ServerUnavailableError: the embedded server did not start.
    """
    named = os.environ.get("REDIS_URL")
    if named:
        yield named
    else:
        with valkey() as server:
            yield server.url


def _with_driver(text: str, driver: str | None) -> str:
    try:
        url = make_url(text)
    except ArgumentError:
        # The text may hold a password, so the message does not repeat it.
        raise ServerUnavailableError(
            "DATABASE_URL is not a URL such as postgresql://user:password@host:5432/database"
        ) from None
    dialect, _, named = url.drivername.partition("+")
    if dialect not in {
        "postgresql",
        "postgres",
    }:  # libpq knows both, and many platforms hand out the short one
        raise ServerUnavailableError(
            f"DATABASE_URL names a {dialect} database; this needs a postgresql:// URL"
        )
    chosen = driver or named
    drivername = f"postgresql+{chosen}" if chosen else "postgresql"
    return url.set(drivername=drivername).render_as_string(hide_password=False)
