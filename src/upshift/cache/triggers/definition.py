"""The triggers: what they are made of, as SQL.

A function and four triggers for each table: after each INSERT, UPDATE and DELETE with what it changed as a
transition table, and after TRUNCATE. They tell once for each statement, whatever its rows: the names of the
table and of those that it is a partition or a child of, and the keys of the rows where there are at most
`MAX_ROWS` and they fit into a notification of PostgreSQL's, which has 8,000 bytes. COPY, MERGE, upserts and
cascades fire them too. A function for all tables would have to make its queries anew each time, which took
three times as long.

    {"tables": ["product"], "columns": ["id"], "keys": [[7]]}

Where all hooked writers share the tokens of the cache with whoever listens, they need not be told twice:
`options=-c upshift.hooked=on` in their connection's parameters (`server_settings` with asyncpg) silences the
triggers for them.
"""

from __future__ import annotations

import json
from hashlib import blake2b
from typing import NamedTuple

from upshift.cache.dependencies.rows import MAX_ROWS

CHANNEL = "upshift_cache"
"""The channel of notifications."""

PREFIX = "upshift_cache_"
"""With which the names of functions and triggers begin."""

MAX_PAYLOAD = 8_000
"""Bytes of a notification, less one; PostgreSQL refuses more, and the statement with it."""

EVENTS = {
    "insert": "REFERENCING NEW TABLE AS upshift_new",
    "update": "REFERENCING OLD TABLE AS upshift_old NEW TABLE AS upshift_new",
    "delete": "REFERENCING OLD TABLE AS upshift_old",
    "truncate": "",
}

_BODY = """
DECLARE
    changed CONSTANT jsonb := {told};
    keys jsonb;
    found bigint;
    payload text;
BEGIN
    IF current_setting('upshift.hooked', true) = 'on' THEN
        RETURN NULL;
    END IF;
    IF TG_OP = 'INSERT' THEN
        SELECT jsonb_agg(key), count(*) INTO keys, found
        FROM (SELECT {key} AS key FROM upshift_new LIMIT {limit}) AS rows;
    ELSIF TG_OP = 'DELETE' THEN
        SELECT jsonb_agg(key), count(*) INTO keys, found
        FROM (SELECT {key} AS key FROM upshift_old LIMIT {limit}) AS rows;
    ELSIF TG_OP = 'UPDATE' THEN
        SELECT jsonb_agg(key), count(*) INTO keys, found FROM (
            (SELECT {key} AS key FROM upshift_old LIMIT {limit})
            UNION (SELECT {key} FROM upshift_new LIMIT {limit})
        ) AS rows;
    END IF;
    IF found = 0 THEN
        RETURN NULL;
    END IF;
    IF found >= {limit} OR NOT {has_key} THEN
        keys := NULL;
    END IF;
    payload := changed || jsonb_build_object('keys', keys);
    IF octet_length(payload) >= {max_payload} THEN
        payload := changed || jsonb_build_object('keys', NULL);
    END IF;
    PERFORM pg_notify('{channel}', payload);
    RETURN NULL;
END
"""


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
    def function(self) -> str:
        """The name of its function in a statement."""
        digest = blake2b(self.name.encode(), digest_size=8).hexdigest()
        return f"{quoted(self.schema)}.{PREFIX}{digest}"

    @property
    def body(self) -> str:
        """What its function does."""
        key = f"jsonb_build_array({', '.join(map(quoted, self.key))})" if self.key else "NULL::jsonb"
        told = json.dumps({"tables": [self.name, *self.above], "columns": self.key})
        return _BODY.format(
            told=_literal(told),
            key=key,
            has_key="true" if self.key else "false",
            limit=MAX_ROWS + 1,
            max_payload=MAX_PAYLOAD,
            channel=CHANNEL,
        )


def trigger_name(event: str) -> str:
    """Return the name of a table's trigger for an event.

    Example:
        >>> trigger_name("insert")
        'upshift_cache_insert'
    """
    return PREFIX + event


def install_sql(table: Watched) -> list[str]:
    """Return what makes the function and the triggers of a table, in the place of those that are there.

    Example:
        >>> function, drop, create, *_others = install_sql(Watched("shop", "product", (), ("id",)))
        >>> create.partition(" ON ")[0]
        'CREATE TRIGGER upshift_cache_insert AFTER INSERT'
    """
    mark = "$upshift$"
    while mark in table.body:  # a name may have it
        mark = f"${mark[1:-1]}_$"
    head = f"CREATE OR REPLACE FUNCTION {table.function}() RETURNS trigger LANGUAGE plpgsql"
    statements = [f"{head} SET search_path = pg_catalog, pg_temp AS {mark}{table.body}{mark}"]
    for event, tables in EVENTS.items():
        name = trigger_name(event)
        statements.append(f"DROP TRIGGER IF EXISTS {name} ON {table.quoted}")
        statements.append(
            f"CREATE TRIGGER {name} AFTER {event.upper()} ON {table.quoted}{tables and ' ' + tables}"
            f" FOR EACH STATEMENT EXECUTE FUNCTION {table.function}()"
        )
    return statements


def remove_sql(table: Watched) -> list[str]:
    """Return what removes the triggers of a table, and its function."""
    drops = [f"DROP TRIGGER IF EXISTS {trigger_name(event)} ON {table.quoted}" for event in EVENTS]
    return [*drops, f"DROP FUNCTION IF EXISTS {table.function}()"]


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
