"""Names of tags: of tables, of rows, and of everything.

A table is told by its bare name in lower case. Two of one name in different schemas are taken for one, which
costs hits and never a stale one; `public.product` and `product` are the same wherever the search path says.
What the tags of rows mean is told in `upshift.cache.dependencies.rows`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

EVERYTHING = "*"
"""The tag of everything that was computed from a database; who may have written anything writes it."""

SCHEMA = "schema"
"""The tag of what there is in a database: who makes or alters a relation writes it."""

_TABLE, _ROWS, _ROW, _BELOW = "table:", "rows:", "row:", "below:"


def bare_name(name: str) -> str:
    """Return the name that a table is known by here.

    Example:
        >>> bare_name('public."Product"')
        'product'
    """
    return name.rpartition(".")[2].strip('"`[]').lower()


def table_tag(name: str) -> str:
    """Return the tag of a table: something in it was changed.

    Example:
        >>> table_tag("public.Product")
        'table:product'
    """
    return _TABLE + bare_name(name)


def table_names(tags: Iterable[str]) -> frozenset[str]:
    """Return the names of the tables whose tags are among these.

    Example:
        >>> sorted(table_names(["table:product", "rows:product", "row:shop:7"]))
        ['product']
    """
    return frozenset(tag.removeprefix(_TABLE) for tag in tags if tag.startswith(_TABLE))


def below_tag(name: str) -> str:
    """Return the tag of what is below a table: it was written to by its own name, and so are its children."""
    return _BELOW + bare_name(name)


def rows_tag(name: str) -> str:
    """Return the tag of a table's rows: some of them were changed, and it is not known which."""
    return _ROWS + bare_name(name)


def row_tag(name: str, key: str) -> str:
    """Return the tag of one row.

    Example:
        >>> row_tag("public.Product", "7")
        'row:product:7'
    """
    return f"{_ROW}{_escaped(bare_name(name))}:{key}"


def table_of_row(tag: str) -> str | None:
    """Return the tag of the table that a tag of a row, or of rows, belongs to; None for any other tag.

    Example:
        >>> table_of_row("row:product:7"), table_of_row("rows:product"), table_of_row("table:product")
        ('table:product', 'table:product', None)
    """
    if tag.startswith(_ROW):
        return _TABLE + tag.split(":", 2)[1].replace("%3a", ":").replace("%25", "%")
    return _TABLE + tag.removeprefix(_ROWS) if tag.startswith(_ROWS) else None


def is_row(tag: str) -> bool:
    """Whether a tag is that of one row."""
    return tag.startswith(_ROW)


def whole_tables(tags: Iterable[str]) -> frozenset[str]:
    """Return tags with those of tables in the place of their rows'.

    Example:
        >>> sorted(whole_tables({"row:product:7", "rows:product", "table:shop"}))
        ['table:product', 'table:shop']
    """
    return frozenset(table_of_row(tag) or tag for tag in tags)


def _escaped(name: str) -> str:
    return name.replace("%", "%25").replace(":", "%3a")
