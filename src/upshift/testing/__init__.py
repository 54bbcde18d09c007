"""What tests and the demo need to stand on: real servers that start in about a second and leave no trace.

In flows nothing but a wish (`postgres()`, `valkey()`); out flow the URLs of servers that live as long as a
`with` block. `upshift.testing.servers` says how. This room knows no other room but the exceptions.
"""

from __future__ import annotations

from upshift.testing.servers import (
    MariadbServer,
    PostgresServer,
    ValkeyServer,
    database_url,
    mariadb,
    postgres,
    postgres_replica,
    redis_url,
    valkey,
)

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
