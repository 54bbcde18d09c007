"""What an index is to Upshift: its table and columns, its name, and the SQL and the migration that make it.

An `Index` is only data. Everything executable is rebuilt from it by SQLAlchemy's compilers, which quote
every name, so an index read from a file can do nothing but be an index.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.schema import CreateIndex, DropIndex

from upshift.errors import IndexAdviceError

NAME_PREFIX = "upshift_"
"""Every index that Upshift names starts with this."""

MAX_COLUMNS = 4
"""Columns of an advised index; wider ones cost every write more than they give a read."""

_MAX_NAME = 63  # PostgreSQL cuts identifiers at 63 bytes (NAMEDATALEN - 1)
_DIGEST = 8
_UNSAFE = re.compile(r"[^a-z0-9_]+")

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=255, pattern=r"\A[^\x00-\x1f\x7f]+\Z")]
"""An identifier as the database has it, unquoted: any characters but control characters."""

DialectName = Literal["postgresql", "sqlite"]

# Paramstyle "named" keeps the compilers from doubling percent signs in names: this SQL takes no parameters.
_DIALECTS: dict[str, sa.Dialect] = {
    "postgresql": postgresql.dialect(paramstyle="named"),  # type: ignore[no-untyped-call]
    "sqlite": sqlite.dialect(paramstyle="named"),
}


@dataclass(frozen=True, slots=True)
class IndexColumn:
    """One key column of an index.

    Attributes:
        name: the column.
        descending: sorted from the largest value to the smallest.
        nulls_first: where NULLs sort; None for the database's own place for that direction.
        operator_class: `text_pattern_ops` lets PostgreSQL answer `LIKE 'prefix%'` in any collation.

    Example:
        >>> str(IndexColumn("placed_at", descending=True))
        'placed_at DESC'
    """

    name: Name
    descending: bool = False
    nulls_first: bool | None = None
    operator_class: Literal["text_pattern_ops"] | None = None

    def __str__(self) -> str:
        return self.name + self.suffix

    @property
    def suffix(self) -> str:
        """What follows the column's name in `CREATE INDEX`: operator class, direction, place of NULLs."""
        nulls = {None: "", True: " NULLS FIRST", False: " NULLS LAST"}[self.nulls_first]
        operators = f" {self.operator_class}" if self.operator_class else ""
        return operators + (" DESC" if self.descending else "") + nulls

    def reversed(self) -> IndexColumn:
        """Return the column as a backward scan of the index reads it."""
        nulls = None if self.nulls_first is None else not self.nulls_first
        return IndexColumn(self.name, not self.descending, nulls, self.operator_class)


Columns = tuple[IndexColumn, ...]

Target = tuple[str | None, str]
"""A table as an index names it: schema, or None for the search path's, and name."""


@dataclass(frozen=True, slots=True)
class Index:
    """A B-tree index: advised, created by `upshift index apply`, or read back from findings.

    Attributes:
        dialect: the database it is for.
        table: the table's name, unquoted.
        columns: the key columns in order.
        schema: the table's schema; None where the connection's search path finds the table.

    Example:
        >>> index = Index("postgresql", "product", (IndexColumn("category_id"), IndexColumn("price")))
        >>> index.name
        'upshift_product_category_id_price_8e997392'
        >>> index.create_sql
        'CREATE INDEX CONCURRENTLY upshift_product_category_id_price_8e997392 ON product (category_id, price)'
    """

    dialect: DialectName
    table: Name
    columns: Annotated[Columns, msgspec.Meta(min_length=1, max_length=MAX_COLUMNS)]
    schema: Name | None = None

    def __post_init__(self) -> None:
        names = [column.name for column in self.columns]
        if len(set(names)) < len(names):
            raise ValueError(f"an index names each column once, not {', '.join(names)}")

    @property
    def target(self) -> Target:
        """The table it is on."""
        return self.schema, self.table

    @property
    def name(self) -> str:
        """A name of at most 63 ASCII bytes that depends on the table's name and the columns only.

        An index is therefore recognised by name in whatever schema it lies.
        """
        key = "\0".join([self.table, *map(str, self.columns)])
        digest = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGEST]
        words = [self.table, *(column.name for column in self.columns)]
        readable = NAME_PREFIX + "_".join(_UNSAFE.sub("_", word.lower()) for word in words)
        return f"{readable[: _MAX_NAME - _DIGEST - 1].rstrip('_')}_{digest}"

    @property
    def create_sql(self) -> str:
        """`CREATE INDEX`, concurrently on PostgreSQL."""
        return self._compile(CreateIndex(self._construct(concurrently=True)))

    @property
    def blocking_sql(self) -> str:
        """`CREATE INDEX` as a transaction allows it: it keeps writers of the table waiting."""
        return self._compile(CreateIndex(self._construct(concurrently=False)))

    @property
    def undo_sql(self) -> str:
        """`DROP INDEX`, concurrently on PostgreSQL."""
        return self._compile(DropIndex(self._construct(concurrently=True), if_exists=True))

    def _construct(self, *, concurrently: bool) -> sa.Index:
        table = sa.Table(self.table, sa.MetaData(), schema=self.schema)
        keys: list[sa.ColumnElement[Any]] = []
        for key in self.columns:
            column: sa.Column[Any] = sa.Column(key.name)
            table.append_column(column)
            element: sa.ColumnElement[Any] = column.desc() if key.descending else column
            if key.nulls_first is not None:
                element = element.nulls_first() if key.nulls_first else element.nulls_last()
            keys.append(element)
        if self.dialect == "sqlite":
            return sa.Index(self.name, *keys)
        operators = {key.name: key.operator_class for key in self.columns if key.operator_class}
        return sa.Index(self.name, *keys, postgresql_concurrently=concurrently, postgresql_ops=operators)

    def _compile(self, construct: sa.schema.ExecutableDDLElement) -> str:
        return str(construct.compile(dialect=_DIALECTS[self.dialect])).strip()


def covers(index: Columns, columns: Columns) -> bool:
    """Whether an index on `index` serves whatever an index on `columns` serves.

    Example:
        >>> a, b = IndexColumn("a"), IndexColumn("b")
        >>> covers((a, b), (a,)), covers((a, b), (b,)), covers((a, b), (a.reversed(), b.reversed()))
        (True, False, True)
    """
    leading = index[: len(columns)]
    return leading == columns or leading == tuple(column.reversed() for column in columns)


def index_from_dict(data: object) -> Index:
    """Read an index back from untrusted data, such as the `fix` of a finding in a JSON file.

    Only the table, the columns and the dialect are read; SQL in the data is ignored, because it is rebuilt.

    Raises:
        IndexAdviceError: the data does not describe an index, or its name is not the one that follows from
            its table and columns, so somebody changed one of them.

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
            f"the index {name!r} should be named {index.name!r} after its table and columns: "
            "the file was edited; write the findings again with `upshift find --format json`"
        )
    return index
