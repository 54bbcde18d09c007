"""How the tables of an application's databases are kept, for a command that looks once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

from upshift.errors import DatabaseUnavailableError, IndexAdviceError
from upshift.sql.maintenance.tables import MAX_TABLES, TableHealth, read_tables
from upshift.sql.plans.aside import aside_engine, deadline
from upshift.sql.plans.explain import ExplainRefusedError, first_line

if TYPE_CHECKING:
    from collections.abc import Iterable

READ_SECONDS = 10.0
"""How long reading the statistics of one database may take."""


def tables_of(engines: Iterable[sa.Engine]) -> tuple[TableHealth, ...]:
    """Return how the tables of the PostgreSQL databases among these are kept, `MAX_TABLES` at most.

    A database whose statistics this user may not read has none to tell.

    Raises:
        DatabaseUnavailableError: a database cannot be reached any more.
    """
    found: list[TableHealth] = []
    for engine in {engine.url: engine for engine in engines}.values():
        if engine.dialect.name == "postgresql":
            try:
                found += _read(aside_engine(engine))
            except (ExplainRefusedError, IndexAdviceError):
                continue
    return tuple(found[:MAX_TABLES])


def _read(engine: sa.Engine) -> tuple[TableHealth, ...]:
    try:
        with deadline(engine, 2 * READ_SECONDS), engine.connect() as connection, connection.begin():
            connection.exec_driver_sql(f"SET LOCAL statement_timeout = {READ_SECONDS * 1e3:.0f}")
            return read_tables(connection)
    except (sa.exc.ProgrammingError, sa.exc.InternalError):
        return ()
    except (sa.exc.DBAPIError, OSError) as error:
        where = engine.url.render_as_string()
        raise DatabaseUnavailableError(f"lost the connection to {where}: {first_line(error)}") from error
