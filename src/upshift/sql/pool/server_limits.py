"""What the database server allows: how many connections, and for how long they may idle."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import text
from sqlalchemy.engine import Engine
from sqlalchemy.exc import InterfaceError, SQLAlchemyError

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

HEADROOM = 3
"""Connections left to others beside those that the server reserves: migrations, backups, whoever looks."""

_POSTGRES = text("""
    SELECT current_setting('max_connections')::int
         - current_setting('superuser_reserved_connections')::int
         - coalesce(current_setting('reserved_connections', true), '0')::int,
        (SELECT coalesce(sum(numbackends), 0) FROM pg_stat_database WHERE datid <> 0)::int,
        (SELECT setting::int / 1000.0 FROM pg_settings WHERE name = 'idle_session_timeout')
""")
"""`pg_stat_database` tells everybody the number of connections; `pg_stat_activity` hides much from most."""

_MYSQL = text("SELECT @@max_connections, @@wait_timeout")
_MYSQL_USED = text("SHOW GLOBAL STATUS LIKE 'Threads_connected'")


class ServerLimits(NamedTuple):
    """A server's limits, and how near they are.

    Attributes:
        connections: how many connections ordinary users can have, all together.
        used: how many there are, ours included.
        idle_seconds: after how long the server ends a connection that idles; None where it does not.
    """

    connections: int
    used: int
    idle_seconds: float | None

    def share(self, own: int) -> int:
        """The most that a pool should have which has `own` connections: those, and half of what is free.

        Half, because other workers read the same number at the same time: two that take it at once do not
        take more than there is, and one that is alone gets all but the headroom in a few steps.

        Example:
            >>> ServerLimits(connections=97, used=40, idle_seconds=None).share(own=10)
            37
        """
        return own + max(0, self.connections - HEADROOM - self.used) // 2


def read_limits(engine: Engine) -> ServerLimits | None:
    """Ask the server; None of a database without such limits.

    It is asked on a connection beside the pool: one that has too few would keep the question waiting. An
    asynchronous engine's `sync_engine` is asked in a greenlet.

    Raises:
        sqlalchemy.exc.SQLAlchemyError: it cannot be asked.

    Example:
        >>> import sqlalchemy as sa
        >>> read_limits(sa.create_engine("sqlite://")) is None
        True
    """
    if engine.dialect.name not in {"postgresql", "mysql", "mariadb"}:
        return None
    beside = type(engine.pool).recreate(engine.pool)  # not the method of this pool, which may be wrapped
    try:
        with Engine(beside, engine.dialect, engine.url).connect() as connection:
            return _of_postgres(connection) if engine.dialect.name == "postgresql" else _of_mysql(connection)
    except (SQLAlchemyError, OSError):
        raise
    except Exception as error:
        # SQLAlchemy 2.0 hands on as it is what asyncpg says of a connection that it cannot make.
        raise InterfaceError("connect", None, error) from error
    finally:
        beside.dispose()


def _of_postgres(connection: Connection) -> ServerLimits:
    connections, used, idle = connection.execute(_POSTGRES).one()
    return ServerLimits(connections, used, float(idle) if idle else None)


def _of_mysql(connection: Connection) -> ServerLimits:
    connections, idle = connection.execute(_MYSQL).one()
    used = int(connection.execute(_MYSQL_USED).one()[1])
    return ServerLimits(int(connections), used, float(idle))
