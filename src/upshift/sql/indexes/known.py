"""The statements that PostgreSQL itself has counted: a workload where nothing was recorded.

`pg_stat_statements` keeps the text with `$1` for its values, and no values; so candidates are read from it
and judged by the generic plan alone. https://www.postgresql.org/docs/current/pgstatstatements.html
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

from upshift.errors import IndexAdviceError
from upshift.sql.engines import connected
from upshift.sql.indexes.workload import MAX_STATEMENTS, Work
from upshift.sql.plans.explain import first_line

if TYPE_CHECKING:
    from collections.abc import Sequence

_STATEMENTS = sa.text("""
    SELECT query, sum(calls)::bigint AS calls, sum(rows)::float / greatest(sum(calls), 1) AS rows
    FROM pg_stat_statements s JOIN pg_database d ON d.oid = s.dbid
    WHERE d.datname = current_database() AND query ~* '^\\s*(SELECT|WITH|INSERT|UPDATE|DELETE)'
      AND query !~* '\\mpg_(catalog|class|index|stat\\w*|namespace|attribute)\\M'
    GROUP BY query
    ORDER BY sum(total_exec_time) DESC
    LIMIT :most
""")


def counted_statements(engine: sa.Engine) -> Sequence[Work]:
    """Return the statements that took most time in this database, from `pg_stat_statements`.

    Their placeholders are PostgreSQL's own: give `paramstyle="numeric_dollar"` with them.

    Raises:
        DatabaseUnavailableError: the database cannot be reached, or went away.
        IndexAdviceError: the extension is not there, or may not be read.
    """
    if engine.dialect.name != "postgresql":
        raise IndexAdviceError("only PostgreSQL counts statements itself: give a recording")
    with connected(engine) as connection:
        try:
            rows = connection.execute(_STATEMENTS, {"most": MAX_STATEMENTS}).all()
        except sa.exc.DBAPIError as error:
            if error.connection_invalidated:
                raise
            raise IndexAdviceError(
                f"pg_stat_statements cannot be read ({first_line(error)}): "
                "CREATE EXTENSION pg_stat_statements, or give a recording"
            ) from error
    return [Work(row.query, calls=int(row.calls), rows=row.rows) for row in rows]
