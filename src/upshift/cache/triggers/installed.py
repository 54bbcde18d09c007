"""Which tables of a database have the triggers, and putting them there and taking them away."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import sqlalchemy as sa

from upshift.cache.triggers.definition import EVENTS, PREFIX, Watched, install_sql, remove_sql
from upshift.errors import MaintenanceError
from upshift.sql.plans.explain import first_line

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import Connection, Engine

LOCK_SECONDS = 5
"""How long a table's lock is waited for; writers that come meanwhile wait as well."""

_TABLES = sa.text("""
WITH RECURSIVE up (relation, above) AS (
    SELECT inhrelid, inhparent FROM pg_inherits
    UNION
    SELECT up.relation, pg_inherits.inhparent FROM up JOIN pg_inherits ON pg_inherits.inhrelid = up.above
)
SELECT c.oid, n.nspname, c.relname,
    ARRAY(
        SELECT DISTINCT p.relname::text FROM up JOIN pg_class p ON p.oid = up.above
        WHERE up.relation = c.oid ORDER BY 1
    ) AS above,
    ARRAY(
        SELECT a.attname::text
        FROM pg_index i CROSS JOIN unnest(i.indkey) WITH ORDINALITY AS k (number, place)
            JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.number
        WHERE i.indrelid = c.oid AND i.indisprimary AND k.place <= i.indnkeyatts ORDER BY k.place
    ) AS key
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
    AND NOT EXISTS (
        SELECT FROM pg_depend d
        WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'
    )
ORDER BY n.nspname, c.relname
""")
_TRIGGERS = sa.text("""
SELECT t.tgrelid, t.tgenabled::text, f.prosrc
FROM pg_trigger t JOIN pg_proc f ON f.oid = t.tgfoid
WHERE starts_with(t.tgname, :prefix) AND NOT t.tgisinternal
""")


class Found(NamedTuple):
    """A table, and whether it has its triggers.

    Attributes:
        table: the table.
        state: `installed`, `missing`, or `outdated`: of another version, of another key, disabled or some.
    """

    table: Watched
    state: str


def find_tables(connection: Connection) -> list[Found]:
    """Return the tables of a database, but for those of the system, of extensions and temporary ones."""
    triggers: dict[int, list[tuple[str, str]]] = {}
    for relation, enabled, body in connection.execute(_TRIGGERS, {"prefix": PREFIX}):
        triggers.setdefault(relation, []).append((enabled, body))
    found = []
    for relation, schema, name, above, key in connection.execute(_TABLES):
        table = Watched(schema, name, tuple(above), tuple(key))
        made = triggers.get(relation, [])
        is_whole = made == [("O", table.body)] * len(EVENTS)
        found.append(Found(table, "installed" if is_whole else "outdated" if made else "missing"))
    return found


def install(engine: Engine, tables: Iterable[Watched]) -> None:
    """Put triggers on tables, each in a transaction of its own.

    Raises:
        MaintenanceError: a table could not be had, or may not be changed; those before it are done.
    """
    for table in tables:
        _run(engine, table, install_sql(table))


def remove(engine: Engine, tables: Iterable[Watched]) -> None:
    """Take triggers from tables, each in a transaction of its own.

    Raises:
        MaintenanceError: a table could not be had, or may not be changed; those before it are done.
    """
    for table in tables:
        _run(engine, table, remove_sql(table))


def _run(engine: Engine, table: Watched, statements: list[str]) -> None:
    try:
        with engine.begin() as connection:
            connection = connection.execution_options(no_parameters=True)  # noqa: PLW2901 - the same
            connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'")
            for statement in statements:
                connection.exec_driver_sql(statement)
    except sa.exc.DBAPIError as error:
        raise MaintenanceError(f"the triggers of {table.quoted} were left: {first_line(error)}") from error
