"""What an index is to Upshift: its table, its keys, what it includes and which rows it holds; and its name.

An `Index` is only data, of a small vocabulary: columns, a few functions of one column, and conditions that
compare one column with a constant. Everything executable is rebuilt from it by SQLAlchemy's compilers
(`upshift.sql.indexes.construct`), so an index read from a file can do nothing but be an index.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import msgspec
import sqlalchemy as sa

from upshift.errors import IndexAdviceError
from upshift.sql.indexes.construct import create_sql, drop_sql

NAME_PREFIX = "upshift_"
"""Every index that Upshift names starts with this."""

MAX_COLUMNS = 4
"""Key columns of an advised index; wider ones cost every write more than they give a read."""

MAX_INCLUDED = 8
"""Columns that an advised index carries besides its keys."""

MAX_CONDITIONS = 3
"""Conditions of a partial index."""

_MAX_NAME = 63  # PostgreSQL cuts identifiers at 63 bytes (NAMEDATALEN - 1)
_DIGEST = 8
_UNSAFE = re.compile(r"[^a-z0-9_]+")
_MARK = "\1"  # parts of a name's key that no identifier holds

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=255, pattern=r"\A[^\x00-\x1f\x7f]+\Z")]
"""An identifier as the database has it, unquoted: any characters but control characters."""

Text = Annotated[str, msgspec.Meta(max_length=200, pattern=r"\A[^\x00-\x1f\x7f\\]*\Z")]
"""A constant that a partial index compares with. Without a backslash it reads alike whatever the server's
`standard_conforming_strings`."""

Number = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]

DialectName = Literal["postgresql", "sqlite"]

Method = Literal["btree", "gin"]
"""The kind of index; GIN finds what is in an array, a JSON document or, by its trigrams, a text."""

OperatorClass = Literal["text_pattern_ops", "gin_trgm_ops", "jsonb_path_ops"]
"""`text_pattern_ops` answers `LIKE 'prefix%'` in any collation, `gin_trgm_ops` (extension pg_trgm) any LIKE
or ILIKE, `jsonb_path_ops` containment (`@>`) in JSON documents."""

Function = Literal["lower", "upper", "date", "hour", "day", "week", "month", "quarter", "year"]
"""What an expression index sorts by: the text in one case, the date (`CAST(… AS DATE)` on PostgreSQL,
`date(…)` on SQLite), or the time cut to a unit (`date_trunc`)."""

Test = Literal["=", "is null", "is not null", "is true", "is false", "true", "false"]
"""What a partial index asks of a column; `true` and `false` are a boolean column by itself and its NOT."""


@dataclass(frozen=True, slots=True)
class IndexColumn:
    """One key of an index: a column, or a function of one.

    Attributes:
        name: the column.
        descending: sorted from the largest value to the smallest.
        nulls_first: where NULLs sort; None for the database's own place for that direction.
        operator_class: for other comparisons than the type's own.
        function: what the key is of the column; None for the column itself.

    Example:
        >>> str(IndexColumn("placed_at", descending=True)), str(IndexColumn("email", function="lower"))
        ('placed_at DESC', 'lower(email)')
    """

    name: Name
    descending: bool = False
    nulls_first: bool | None = None
    operator_class: OperatorClass | None = None
    function: Function | None = None

    def __str__(self) -> str:
        return (f"{self.function}({self.name})" if self.function else self.name) + self.suffix

    @property
    def suffix(self) -> str:
        """What follows the key in `CREATE INDEX`: operator class, direction, place of NULLs."""
        nulls = {None: "", True: " NULLS FIRST", False: " NULLS LAST"}[self.nulls_first]
        operators = f" {self.operator_class}" if self.operator_class else ""
        return operators + (" DESC" if self.descending else "") + nulls

    @property
    def label(self) -> str:
        """The key by one word, as `postgresql_ops` names it."""
        return f"{self.name}_{self.function}" if self.function else self.name

    def reversed(self) -> IndexColumn:
        """Return the key as a backward scan of the index reads it."""
        nulls = None if self.nulls_first is None else not self.nulls_first
        return replace(self, descending=not self.descending, nulls_first=nulls)


Columns = tuple[IndexColumn, ...]

Target = tuple[str | None, str]
"""A table as an index names it: schema, or None for the search path's, and name."""


@dataclass(frozen=True, slots=True)
class Condition:
    """One thing that a partial index asks of the rows it holds.

    Attributes:
        column: the column it asks about.
        test: what it asks.
        value: the constant of `=`; None for the other tests.

    Example:
        >>> str(Condition("status", "=", "open")), str(Condition("deleted_at", "is null"))
        ("status = 'open'", 'deleted_at is null')
    """

    column: Name
    test: Test
    value: Text | Number | None = None

    def __post_init__(self) -> None:
        if (self.value is None) is (self.test == "="):
            raise ValueError("a condition has a value where it compares, and none elsewhere")

    def __str__(self) -> str:
        return f"{self.column} {self.test}" + (f" {self.value!r}" if self.value is not None else "")


@dataclass(frozen=True, slots=True)
class Index:
    """An index: advised, created by `upshift index apply`, or read back from findings.

    Attributes:
        dialect: the database it is for.
        table: the table's name, unquoted.
        columns: the keys in order.
        schema: the table's schema; None where the connection's search path finds the table.
        include: columns carried beside the keys, so that the table need not be read (PostgreSQL).
        where: the rows it holds, all conditions together; all rows where there are none.
        method: its kind.

    Example:
        >>> index = Index("postgresql", "product", (IndexColumn("category_id"), IndexColumn("price")))
        >>> index.name
        'upshift_product_category_id_price_8e997392'
        >>> index.create_sql
        'CREATE INDEX CONCURRENTLY upshift_product_category_id_price_8e997392 ON product (category_id, price)'
        >>> replace(index, include=("name",), where=(Condition("sold_at", "is null"),)).blocking_sql[56:]
        'ON product (category_id, price) INCLUDE (name) WHERE sold_at IS NULL'
    """

    dialect: DialectName
    table: Name
    columns: Annotated[Columns, msgspec.Meta(min_length=1, max_length=MAX_COLUMNS)]
    schema: Name | None = None
    include: Annotated[tuple[Name, ...], msgspec.Meta(max_length=MAX_INCLUDED)] = ()
    where: Annotated[tuple[Condition, ...], msgspec.Meta(max_length=MAX_CONDITIONS)] = ()
    method: Method = "btree"

    def __post_init__(self) -> None:
        names = [
            *((key.name, key.function) for key in self.columns),
            *((name, None) for name in self.include),
        ]
        if len(set(names)) < len(names):
            raise ValueError(f"an index names each column once, not {', '.join(name for name, _ in names)}")
        if self.method == "gin" and (self.include or any(_is_sorted(key) for key in self.columns)):
            raise ValueError("a GIN index has no order and includes nothing")
        if self.dialect == "sqlite" and (self.include or self.method != "btree"):
            raise ValueError("SQLite has B-trees only, which include nothing")

    @property
    def target(self) -> Target:
        """The table it is on."""
        return self.schema, self.table

    @property
    def is_computed(self) -> bool:
        """Whether a key of it is a function of a column."""
        return any(key.function for key in self.columns)

    @property
    def is_plain(self) -> bool:
        """Whether it is a B-tree of columns that holds all rows and nothing besides."""
        return self.method == "btree" and not (self.include or self.where or self.is_computed)

    @property
    def name(self) -> str:
        """A name of at most 63 ASCII bytes that depends on the table's name and on what the index is.

        An index is therefore recognised by name in whatever schema it lies.
        """
        key = [self.table, *(str(column) + _MARK * bool(column.function) for column in self.columns)]
        key += [f"{_MARK}include {name}" for name in self.include]
        key += [f"{_MARK}where {each.column}{_MARK}{each.test} {each.value!r}" for each in self.where]
        key += [f"{_MARK}using {self.method}"] if self.method != "btree" else []
        digest = hashlib.sha256("\0".join(key).encode("utf-8", "surrogatepass")).hexdigest()[:_DIGEST]
        words = [self.table, *(column.name for column in self.columns)]
        readable = NAME_PREFIX + "_".join(_UNSAFE.sub("_", word.lower()) for word in words)
        return f"{readable[: _MAX_NAME - _DIGEST - 1].rstrip('_')}_{digest}"

    @property
    def create_sql(self) -> str:
        """`CREATE INDEX`, concurrently on PostgreSQL."""
        return create_sql(self, concurrently=True)

    @property
    def blocking_sql(self) -> str:
        """`CREATE INDEX` as a transaction allows it: it keeps writers of the table waiting."""
        return create_sql(self, concurrently=False)

    @property
    def undo_sql(self) -> str:
        """`DROP INDEX`, concurrently on PostgreSQL."""
        return drop_sql(self)

    def __str__(self) -> str:
        using = f" using {self.method}" if self.method != "btree" else ""
        include = f" include ({', '.join(self.include)})" if self.include else ""
        where = f" where {' and '.join(map(str, self.where))}" if self.where else ""
        return f"{self.table}{using} ({', '.join(map(str, self.columns))}){include}{where}"


def _is_sorted(key: IndexColumn) -> bool:
    return key.descending or key.nulls_first is not None


def covers(index: Columns, columns: Columns) -> bool:
    """Whether a B-tree on `index` serves whatever one on `columns` serves.

    Example:
        >>> a, b = IndexColumn("a"), IndexColumn("b")
        >>> covers((a, b), (a,)), covers((a, b), (b,)), covers((a, b), (a.reversed(), b.reversed()))
        (True, False, True)
    """
    leading = index[: len(columns)]
    return leading == columns or leading == tuple(column.reversed() for column in columns)


def replaces(wider: Index, index: Index) -> bool:
    """Whether one index serves whatever another of the same table serves.

    Example:
        >>> a, b = IndexColumn("a"), IndexColumn("b")
        >>> narrow, wide = Index("postgresql", "t", (a,)), Index("postgresql", "t", (a, b), include=("c",))
        >>> replaces(wide, narrow), replaces(narrow, wide)
        (True, False)
    """
    if (wider.dialect, wider.target, wider.method, wider.where) != (
        index.dialect,
        index.target,
        index.method,
        index.where,
    ):
        return False
    if index.method == "gin":
        return wider.columns == index.columns
    carried = {*wider.include, *(key.name for key in wider.columns if not key.function)}
    return covers(wider.columns, index.columns) and carried.issuperset(index.include)


def index_from_dict(data: object) -> Index:
    """Read an index back from untrusted data, such as the `fix` of a finding in a JSON file.

    Only what an `Index` is made of is read; SQL in the data is ignored, because it is rebuilt.

    Raises:
        IndexAdviceError: the data does not describe an index, or its name is not the one that follows from
            what it is, so somebody changed one of them.

    Example:
        >>> index_from_dict({"dialect": "sqlite", "table": "t", "columns": [{"name": "a"}]}).create_sql
        'CREATE INDEX upshift_t_a_bc6f9628 ON t (a)'
    """
    try:
        index = msgspec.convert(data, Index)
        index.create_sql.encode()
    except (msgspec.ValidationError, UnicodeEncodeError, sa.exc.SQLAlchemyError) as error:
        raise IndexAdviceError(f"this is no index advised by Upshift: {error}") from error
    name = data.get("name", index.name) if isinstance(data, dict) else index.name
    if name != index.name:
        raise IndexAdviceError(
            f"the index {name!r} should be named {index.name!r} after what it is on: "
            "the file was edited; write the findings again with `upshift find --format json`"
        )
    return index
