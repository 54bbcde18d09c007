"""Rows: what a statement that names primary keys depends on, and what it changes.

The tags of a table
    ===========  =============================================================================================
    table:t      something in t has changed
    rows:t       rows of t have changed, and it is not known which
    row:t:k      the row of t with the key k has changed, came or went
    ===========  =============================================================================================

    ===================  ===================  ================================================================
    a statement          reads                writes
    ===================  ===================  ================================================================
    that pins its rows   row:t:k…, rows:t     row:t:k…, table:t
    that does not        table:t              rows:t, table:t
    ===================  ===================  ================================================================

    Each pair of a reader and a writer that may meet in a row shares a tag: two that pin share the row's; one
    that does not pin, reading, shares table:t with every writer; one that does not pin, writing, shares
    rows:t with every reader that pins. A reader is never told of more than one tag more than before, and a
    writer of one more than the rows it changes.

What pins
    A condition `key = value` or `key IN (values)` that is part of the WHERE by AND alone. Then no row with
    another key can be in the result, whatever else the statement says of it: of joins, the table that the
    condition is about can be cut down to these rows before it is joined. That is true of outer joins too,
    as a condition of the WHERE on a column refuses rows that were filled up with NULL. Where ON says that
    two columns are equal, what pins one pins the other: in an outer join from the side that is kept to the
    side that is filled up, and not back. So a subclass in a table of its own is pinned with its base. Each
    SELECT in a statement is looked at alone, and a table that is pinned in one and not in another is not
    pinned. OR, NOT, ranges, parts of a composite key and more than `MAX_ROWS` rows do not pin.

What a write changes
    UPDATE and DELETE change the rows that they pin; an UPDATE that sets a part of the key does not pin. An
    INSERT changes the row whose key it gives, or that the database gave it, which is asked for before the
    transaction commits; a reader that looked for that key before depends on it, though it found nothing.
    An upsert pins if it finds its conflicts by the primary key: by another one it changes rows of other
    keys. What the database changes by itself, by ON DELETE and ON UPDATE of foreign keys, is not pinned.

When two values are one key
    The database decides which values are equal, and a key has to be the same text for all of them. Many may
    share a text, which only costs hits. So a key is made only of values whose equality is known by the type
    of their column; any other is not pinned, whoever reads or writes it:

    - whole numbers: 7, Decimal(7) and the text "7" are one; 7.0 and True are none, and neither is 0, in
      whose place MySQL makes another key.
    - texts of printable ASCII, without regard to case and spaces at the end, as some collations compare so.
      What equals them in any collation, and is not ASCII, is not pinned, and so tells every reader.
    - UUIDs, written in any way; dates.

    A type that changes values on their way (a TypeDecorator, an Enum) makes none.

What it leans on
    All processes that share a cache map a table with the same primary key. Where two mappings of one process
    do not agree, the table is not pinned any more. Triggers of the database that change other rows than
    those of their statement are not seen (A1 in `upshift.cache.tokens`).
"""

from __future__ import annotations

import datetime as dt
import re
from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from sqlalchemy import Date, Enum, Integer, String, TypeDecorator, Uuid

from upshift.cache.dependencies.names import row_tag

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from sqlalchemy.types import TypeEngine

MAX_ROWS = 64
"""Rows of a table that a statement, a transaction or a value names; with more, it is about the table."""

MAX_KEY = 128
"""Characters of a key that names a row."""

_WHOLE = re.compile(r"[+-]?[0-9]{1,40}", re.ASCII)


class Kind(StrEnum):
    """How a column compares values, as far as keys are made of them."""

    WHOLE = "whole"
    TEXT = "text"
    UUID = "uuid"
    DATE = "date"


class Fixed(NamedTuple):
    """A value that stands in a statement."""

    value: object


class Given(NamedTuple):
    """A value that a parameter gives.

    Attributes:
        name: its name, or its position.
        is_many: whether it stands for several, as in an expanding IN.
    """

    name: str | int
    is_many: bool = False


Value = Fixed | Given


class Pin(NamedTuple):
    """The rows of a table that a statement names.

    Attributes:
        table: the table.
        columns: for each column of its key, how it compares, and the values it may have.
        prefix: with which the tags of its rows begin.
    """

    table: str
    columns: tuple[tuple[Kind, tuple[Value, ...]], ...]
    prefix: str


class Parameters(NamedTuple):
    """The parameters of one execution.

    Attributes:
        sets: those of each run; one but for executemany.
        expanded: for a name that stands for several, the names of its values.
    """

    sets: Sequence[Mapping[Any, Any] | Sequence[Any]]
    expanded: Mapping[Any, Sequence[str]]


def kind_of(column_type: TypeEngine[Any]) -> Kind | None:
    """Return how a type compares; None where that is not known.

    Example:
        >>> from sqlalchemy import BigInteger, Float
        >>> kind_of(BigInteger()), kind_of(Float())
        (<Kind.WHOLE: 'whole'>, None)
    """
    if isinstance(column_type, (TypeDecorator, Enum)):
        return None
    module = type(column_type).__module__
    if isinstance(column_type, Integer):
        return Kind.WHOLE if module.startswith("sqlalchemy.") else None
    if module != "sqlalchemy.sql.sqltypes":  # dialects have types that compare in ways of their own
        return None
    if isinstance(column_type, String):
        return Kind.TEXT
    if isinstance(column_type, Uuid):
        return Kind.UUID
    return Kind.DATE if isinstance(column_type, Date) else None


def key_part(kind: Kind, value: object) -> str | None:
    """Return what a value is called in a key: the same for all that the database may take for equal.

    Returns:
        None where it is not known what it equals.

    Example:
        >>> key_part(Kind.WHOLE, 7) == key_part(Kind.WHOLE, " 7"[1:]) == key_part(Kind.WHOLE, Decimal("7.0"))
        True
        >>> key_part(Kind.WHOLE, 7.0) is key_part(Kind.TEXT, "é") is None
        True
    """
    part = _PARTS[kind](value)
    return part if part is None or len(part) <= MAX_KEY else None


def _whole(value: object) -> str | None:
    part = None
    if type(value) is int:  # and no bool, which is an int that compares in other ways
        part = str(value) if value.bit_length() <= 64 else None  # noqa: PLR2004 - no column has more
    elif isinstance(value, str):
        part = str(int(value)) if _WHOLE.fullmatch(value) else None
    elif isinstance(value, Decimal) and value.is_finite() and value.adjusted() < MAX_ROWS:
        part = str(int(value)) if value == value.to_integral_value() else None
    return None if part == "0" else part


def _text(value: object) -> str | None:
    if type(value) is str and value.isascii() and value.isprintable():
        return value.rstrip().casefold().replace("%", "%25").replace(":", "%3a")
    return None


def _uuid(value: object) -> str | None:
    if isinstance(value, UUID):
        return value.hex
    try:
        return UUID(value).hex if isinstance(value, str) else None
    except ValueError:
        return None


def _date(value: object) -> str | None:
    return value.isoformat() if type(value) is dt.date else None  # and no datetime, which is a date


_PARTS: dict[Kind, Callable[[object], str | None]] = {
    Kind.WHOLE: _whole, Kind.TEXT: _text, Kind.UUID: _uuid, Kind.DATE: _date,
}  # fmt: skip


def pin_of(table: str, columns: Iterable[tuple[Kind, tuple[Value, ...]]]) -> Pin:
    """Return the rows of a table whose key has these values."""
    return Pin(table, tuple(columns), row_tag(table, ""))


def row_tags(pin: Pin, parameters: Parameters) -> set[str] | None:
    """Return the tags of the rows that an execution names; None where they are not known, or too many."""
    tags: set[str] = set()
    for given in parameters.sets:
        keys = [""]
        for kind, values in pin.columns:
            parts = _parts(kind, values, given, parameters.expanded)
            if parts is None or len(keys) * len(parts) > MAX_ROWS:
                return None
            keys = [(key and f"{key}:{part}") or part for key in keys for part in parts]
        tags.update([pin.prefix + key for key in keys])
        if len(tags) > MAX_ROWS:
            return None
    return tags


def key_tag(table: str, parts: Iterable[str]) -> str:
    """Return the tag of the row whose key has these parts."""
    return row_tag(table, ":".join(parts))


def _parts(
    kind: Kind, values: tuple[Value, ...], given: Any, expanded: Mapping[Any, Sequence[str]]
) -> set[str] | None:
    parts: set[str] = set()
    try:
        for each in values:
            found: Iterable[object]
            if isinstance(each, Fixed):
                found = (each.value,)
            elif not each.is_many:
                found = (given[each.name],)
            else:
                names = expanded.get(each.name)
                found = given[each.name] if names is None else [given[name] for name in names]
            for value in found:
                part = key_part(kind, value)
                if part is None:
                    return None
                parts.add(part)
    except (LookupError, TypeError):
        return None  # no such parameter: nothing is known
    return parts
