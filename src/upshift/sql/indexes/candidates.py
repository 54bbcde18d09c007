"""Which indexes might serve a statement: read from its text, to be judged by the planner and by execution.

A B-tree serves equalities on its leading columns and after them one range or an order
(https://use-the-index-luke.com/sql/where-clause/the-equals-operator/concatenated-keys), so candidates are
combinations of what `upshift.sql.indexes.access` reads, in that order. To these come B-trees that carry all
the columns that a statement reads; partial ones, where a condition that never changes holds for few
rows; and GIN indexes for parts of texts, arrays and documents.

They are guesses, and generous ones: `upshift.sql.indexes.advisor` reports none that was not seen to help.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING

from upshift.sql.indexes.access import accesses
from upshift.sql.indexes.index import MAX_COLUMNS, MAX_INCLUDED, Index, IndexColumn

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from upshift.sql.catalog import Table, TableName
    from upshift.sql.indexes.access import Access, Constant
    from upshift.sql.indexes.index import Columns, Condition
    from upshift.sql.statement import Statement

MAX_CANDIDATES = 48
"""Candidates of one statement."""

MAX_WIDTH = 64
"""Bytes that the included columns of one entry may have together."""

MAX_SHARE = 1 / 3
"""Part of a row that they may be: an index that carries more is a second table."""

_FEW = 0.4  # of the rows: an index of these alone is much smaller than one of all
_KINDS = 50  # distinct values of a column that tells kinds of rows, and so is compared with constants
_ROTATED = 3  # columns compared for equality of which each is tried in front


def propose(
    statement: Statement,
    tables: Mapping[TableName, Table],
    constants: Mapping[str, Constant] | None = None,
) -> list[Index]:
    """Return the indexes that might serve a statement and that no existing index makes needless.

    Args:
        statement: the statement, understood.
        tables: the tables to propose for, by the names that the statement gives them.
        constants: placeholders that had the same value in every execution, by their names in `statement`.

    Example:
        >>> from upshift.sql.catalog import Table, TableName
        >>> from upshift.sql.statement import read_statement
        >>> item = Table("item", "main", {"id": "id", "kind": "kind", "price": "price"}, (), rows=9_999)
        >>> statement = read_statement("SELECT * FROM item WHERE kind = ? ORDER BY price LIMIT 5", "sqlite")
        >>> for index in propose(statement, {TableName("item"): item}):
        ...     print(index)
        item (kind, price)
        item (kind)
    """
    found = (
        index
        for access in accesses(statement, tables, constants or {})
        for index in _candidates(statement, access)
        if not access.table.has_index(index)
    )
    return list(islice(dict.fromkeys(found), MAX_CANDIDATES))


def _candidates(statement: Statement, access: Access) -> Iterator[Index]:
    def index(columns: Columns) -> Index:
        return Index(statement.dialect, access.table.name, columns, access.schema)

    combinations = list(dict.fromkeys(_combinations(access)))
    yield from (index(columns) for columns in combinations)
    for key in access.contained:
        yield replace(index((key,)), method="gin")
    for condition in access.constant:
        # SQLite keeps no such statistics; there the steps that it takes have to tell.
        if statement.dialect == "sqlite" or _is_rare(condition, access.table):
            for columns in _partial(access, condition):
                yield replace(index(columns), where=(condition,))
    if statement.dialect == "postgresql" and access.needed is not None:
        for columns in combinations:
            carried = {key.name for key in columns if not key.function}
            include = tuple(name for name in access.needed if name not in carried)
            is_whole = len(columns) == max(map(len, combinations))
            if is_whole and include and is_narrow(include, access.table):
                yield replace(index(columns), include=include)


def _combinations(access: Access) -> Iterator[Columns]:
    """Equalities, the most selective first, then the order or one range; and every leading part of these."""
    for head in _heads(access):
        if access.table.has_key(key.name for key in head if not key.function):
            continue
        for tail in _tails(access, head):
            width = min(len(head) + len(tail), MAX_COLUMNS)
            for length in range(width, 0, -1):
                columns = (*head[:length], *tail[: max(length - len(head), 0)])
                if len({key.name for key in columns}) == len(columns):
                    yield columns


def _heads(access: Access) -> list[list[IndexColumn]]:
    """What may lead: the equalities, each in front once for other statements to share; then the joins."""
    equal = sorted(access.equal, key=lambda key: access.table.values(key.name), reverse=True)
    rotated = [_first(key, equal) for key in equal[1:]] if len(equal) <= _ROTATED else []
    joined = [_first(key, equal) for key in access.joined]
    together = [[*access.joined, *(key for key in equal if key not in access.joined)]]
    return [equal, *rotated, *joined, *(together if len(access.joined) > 1 else [])]


def _first(key: IndexColumn, keys: list[IndexColumn]) -> list[IndexColumn]:
    return [key, *(other for other in keys if other.name != key.name)]


def _tails(access: Access, head: list[IndexColumn]) -> list[list[IndexColumn]]:
    taken = {key.name for key in head}
    tails = [[key] for key in access.bounded if key.name not in taken]
    if head or access.is_limited:
        order = [key for key in access.ordered if key.name not in taken]
        tails.insert(0, order if head else _forwards(order))
    return [*filter(None, tails), []]


def _forwards(ordered: list[IndexColumn]) -> list[IndexColumn]:
    """An order that is descending throughout, as the ascending one that a backward scan reads."""
    if all(key.descending and key.nulls_first is None for key in ordered):
        return [replace(key, descending=False) for key in ordered]
    return ordered


def _is_rare(condition: Condition, table: Table) -> bool:
    """Whether a condition is known to hold for few of the rows."""
    nulls = table.nulls.get(condition.column)
    common = table.common.get(condition.column, {})
    match condition.test:
        case "is null":
            part = nulls
        case "is not null":
            part = None if nulls is None else 1.0 - nulls
        case "=" if 0 < table.values(condition.column) <= _KINDS:
            part = common.get(str(condition.value))
        case "true" | "is true":
            part = common.get("t")
        case "false" | "is false":
            part = common.get("f")
        case _:
            part = None
    return part is not None and part <= _FEW


def _partial(access: Access, condition: Condition) -> Iterator[Columns]:
    """The keys of an index that holds only the rows of a condition, which its keys then need not name."""
    rest = replace(
        access,
        equal=[key for key in access.equal if key.name != condition.column],
        bounded=[key for key in access.bounded if key.name != condition.column],
        is_limited=True,  # a short index may be read to its end, in its order
    )
    combinations = dict.fromkeys(_combinations(rest))
    if combinations:
        width = max(map(len, combinations))
        yield from (columns for columns in combinations if len(columns) == width)
    elif condition.test == "=":
        yield (IndexColumn(condition.column),)


def is_narrow(include: Sequence[str], table: Table) -> bool:
    """Whether columns are few and short enough to be carried by an index."""
    width = sum(table.widths.get(name, 0) for name in include)
    row = sum(table.widths.values())
    return len(include) <= MAX_INCLUDED and width <= min(MAX_WIDTH, row * MAX_SHARE)


def merged(candidates: Iterable[Index]) -> list[Index]:
    """Return the indexes that do the work of several candidates which differ in what they include.

    Two statements that read other columns by the same keys then share one index (Chaudhuri and Narasayya,
    "Index Merging", ICDE 1999, of which this is the covering kind only).

    Example:
        >>> first, second = (Index("postgresql", "t", (IndexColumn("a"),), include=(name,)) for name in "bc")
        >>> print(*merged([first, second]))
        t (a) include (b, c)
    """
    included: dict[Index, dict[str, None]] = {}
    for index in candidates:
        if index.include:
            included.setdefault(replace(index, include=()), {}).update(dict.fromkeys(index.include))
    known = set(candidates)
    wide = (
        replace(index, include=tuple(names))
        for index, names in included.items()
        if len(names) <= MAX_INCLUDED
    )
    return [index for index in wide if index not in known]
