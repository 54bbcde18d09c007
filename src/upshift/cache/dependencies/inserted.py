"""Keys that the database has made for the rows of an INSERT."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from upshift.cache.dependencies.names import rows_tag
from upshift.cache.dependencies.rows import MAX_ROWS, key_part, key_tag

if TYPE_CHECKING:
    from upshift.cache.dependencies.schema import Schema


def inserted_rows(context: Any, table: str, schema: Schema) -> set[str]:
    """Return the tags of the rows that an INSERT has brought; that of all rows where SQLAlchemy was not told.

    Args:
        context: its execution context, when it is over.
        table: the table.
        schema: what is known of it.
    """
    key = schema.key(table)
    try:
        rows = list(context.inserted_primary_key_rows)
    except Exception:  # noqa: BLE001 - it failed, or the dialect does not tell
        rows = []
    tags = set[str]()
    for row in rows[: MAX_ROWS + 1]:
        parts = [
            part
            for each, value in zip(key, row or (), strict=False)
            if each.kind is not None and (part := key_part(each.kind, value)) is not None
        ]
        if len(parts) != len(key):
            return {rows_tag(table)}
        tags.add(key_tag(table, parts))
    return tags if 0 < len(tags) <= MAX_ROWS else {rows_tag(table)}
