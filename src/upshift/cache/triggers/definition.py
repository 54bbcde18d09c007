"""The triggers: what they are made of, as SQL.

One function for each schema, and four triggers for each table: after each INSERT, UPDATE and DELETE with what
it changed as a transition table, and after TRUNCATE. They tell once for each statement, whatever its rows:
the names of the table and of those that it is a partition or a child of, and the keys of the rows where there
are at most `MAX_ROWS` and they fit into a notification of PostgreSQL's, which has 8,000 bytes. COPY, MERGE,
upserts and cascades fire them too.

    {"tables": ["product"], "columns": ["id"], "keys": [[7]]}

Where all hooked writers share the tokens of the cache with whoever listens, they need not be told twice:
`options=-c upshift.hooked=on` in their connection's parameters (`server_settings` with asyncpg) silences the
triggers for them.
"""

from __future__ import annotations

import json
from typing import NamedTuple

from upshift.cache.dependencies.rows import MAX_ROWS

CHANNEL = "upshift_cache"
"""The channel of notifications."""

FUNCTION = "upshift_cache_notify"
MAX_PAYLOAD = 8_000
"""Bytes of a notification, less one; PostgreSQL refuses more, and the statement with it."""

EVENTS = {
    "insert": "REFERENCING NEW TABLE AS upshift_new",
    "update": "REFERENCING OLD TABLE AS upshift_old NEW TABLE AS upshift_new",
    "delete": "REFERENCING OLD TABLE AS upshift_old",
    "truncate": "",
}

BODY = f"""
DECLARE
    source text;
    keys jsonb;
    found bigint;
    payload text;
BEGIN
    IF current_setting('upshift.hooked', true) = 'on' THEN
        RETURN NULL;
    END IF;
    IF TG_OP <> 'TRUNCATE' THEN
        source := CASE TG_OP
            WHEN 'INSERT' THEN '(SELECT %1$s AS key FROM upshift_new LIMIT {MAX_ROWS + 1})'
            WHEN 'DELETE' THEN '(SELECT %1$s AS key FROM upshift_old LIMIT {MAX_ROWS + 1})'
            ELSE '(SELECT %1$s AS key FROM upshift_old LIMIT {MAX_ROWS + 1})'
                ' UNION (SELECT %1$s FROM upshift_new LIMIT {MAX_ROWS + 1})'
        END;
        EXECUTE 'SELECT jsonb_agg(key), count(*) FROM (' || format(source, TG_ARGV[2]) || ') AS changed'
            INTO keys, found;
        IF found = 0 THEN
            RETURN NULL;
        END IF;
        IF found > {MAX_ROWS} OR TG_ARGV[1] = '[]' THEN
            keys := NULL;
        END IF;
    END IF;
    payload := jsonb_build_object(
        'tables', TG_ARGV[0]::jsonb, 'columns', TG_ARGV[1]::jsonb, 'keys', keys);
    IF octet_length(payload) >= {MAX_PAYLOAD} THEN
        payload := jsonb_build_object(
            'tables', TG_ARGV[0]::jsonb, 'columns', TG_ARGV[1]::jsonb, 'keys', NULL);
    END IF;
    PERFORM pg_notify('{CHANNEL}', payload);
    RETURN NULL;
END
"""  # noqa: S608 - constants


class Watched(NamedTuple):
    """A table that triggers are for.

    Attributes:
        schema: its schema.
        name: its name.
        above: names of the tables that it is a partition or a child of, however far above.
        key: the columns of its primary key.
    """

    schema: str
    name: str
    above: tuple[str, ...]
    key: tuple[str, ...]

    @property
    def quoted(self) -> str:
        """Its name in a statement."""
        return f"{quoted(self.schema)}.{quoted(self.name)}"

    @property
    def arguments(self) -> tuple[str, str, str]:
        """What its triggers hand to the function: names and columns as JSON, and what makes a key."""
        key = f"jsonb_build_array({', '.join(map(quoted, self.key))})" if self.key else "NULL::jsonb"
        return json.dumps([self.name, *self.above]), json.dumps(self.key), key


def trigger_name(event: str) -> str:
    """Return the name of a table's trigger for an event.

    Example:
        >>> trigger_name("insert")
        'upshift_cache_insert'
    """
    return f"upshift_cache_{event}"


def function_sql(schema: str) -> str:
    """Return what makes the function that a schema's triggers call."""
    return (
        f"CREATE OR REPLACE FUNCTION {quoted(schema)}.{FUNCTION}() RETURNS trigger LANGUAGE plpgsql"
        f" SET search_path = pg_catalog, pg_temp AS $upshift${BODY}$upshift$"
    )


def install_sql(table: Watched) -> list[str]:
    """Return what makes the triggers of a table, in the place of those that are there.

    Example:
        >>> drop, create, *_others = install_sql(Watched("shop", "product", (), ("id",)))
        >>> create.partition(" ON ")[0]
        'CREATE TRIGGER upshift_cache_insert AFTER INSERT'
    """
    call = f"{quoted(table.schema)}.{FUNCTION}({', '.join(map(_literal, table.arguments))})"
    statements = []
    for event, tables in EVENTS.items():
        name = trigger_name(event)
        statements.append(f"DROP TRIGGER IF EXISTS {name} ON {table.quoted}")
        statements.append(
            f"CREATE TRIGGER {name} AFTER {event.upper()} ON {table.quoted}{tables and ' ' + tables}"
            f" FOR EACH STATEMENT EXECUTE FUNCTION {call}"
        )
    return statements


def remove_sql(table: Watched) -> list[str]:
    """Return what removes the triggers of a table."""
    return [f"DROP TRIGGER IF EXISTS {trigger_name(event)} ON {table.quoted}" for event in EVENTS]


def remove_function_sql(schema: str) -> str:
    """Return what removes the function of a schema, which no trigger calls any more."""
    return f"DROP FUNCTION IF EXISTS {quoted(schema)}.{FUNCTION}()"


def quoted(name: str) -> str:
    """Return a name as it stands in a statement.

    Example:
        >>> quoted('odd"name')
        '"odd""name"'
    """
    return '"' + name.replace('"', '""') + '"'


def _literal(text: str) -> str:
    # With a backslash in it as an escaping literal, which means the same whatever the server's settings are.
    escaped = text.replace("'", "''")
    return "E'" + escaped.replace("\\", "\\\\") + "'" if "\\" in text else f"'{escaped}'"
