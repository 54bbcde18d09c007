"""An `Index` as SQLAlchemy has it, and the SQL that follows from it.

Everything here is made of constructs that SQLAlchemy's compilers quote. No text of an index becomes SQL in
any other way, so that one read from a file can do nothing but be an index.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.schema import CreateIndex, DropIndex

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from upshift.sql.indexes.index import Condition, Index, IndexColumn

# Paramstyle "named" keeps the compilers from doubling percent signs in names: this SQL takes no parameters.
_DIALECTS: dict[str, sa.Dialect] = {
    "postgresql": postgresql.dialect(paramstyle="named"),  # type: ignore[no-untyped-call]
    "sqlite": sqlite.dialect(paramstyle="named"),
}

_TESTS: Mapping[str, Callable[[sa.ColumnClause[Any]], sa.ColumnElement[bool]]] = {
    "is null": lambda column: column.is_(None),
    "is not null": lambda column: column.is_not(None),
    "is true": lambda column: column.is_(sa.true()),
    "is false": lambda column: column.is_(sa.false()),
    "true": lambda column: column,
    "false": sa.not_,
}


def create_sql(index: Index, *, concurrently: bool) -> str:
    """`CREATE INDEX`; concurrently it keeps no writer waiting, and no transaction allows it."""
    return _compile(index, CreateIndex(_construct(index, concurrently=concurrently)))


def drop_sql(index: Index) -> str:
    """`DROP INDEX`, concurrently on PostgreSQL."""
    return _compile(index, DropIndex(_construct(index, concurrently=True), if_exists=True))


def where_sql(index: Index) -> str:
    """The condition of a partial index, as `WHERE` has it; "" for one that holds all rows."""
    if not index.where:
        return ""
    condition = sa.and_(*map(_condition, index.where))
    return str(condition.compile(dialect=_DIALECTS[index.dialect], compile_kwargs={"literal_binds": True}))


def _construct(index: Index, *, concurrently: bool) -> sa.Index:
    table = sa.Table(index.table, sa.MetaData(), schema=index.schema)
    for name in dict.fromkeys([*(key.name for key in index.columns), *index.include]):
        table.append_column(sa.Column(name))
    keys = [_key(key, table.c[key.name], index.dialect) for key in index.columns]
    where = sa.and_(*map(_condition, index.where)) if index.where else None
    if index.dialect == "sqlite":
        return sa.Index(index.name, *keys, sqlite_where=where)
    options: dict[str, Any] = {
        "postgresql_concurrently": concurrently,
        "postgresql_ops": {key.label: key.operator_class for key in index.columns if key.operator_class},
        "postgresql_include": list(index.include),
        "postgresql_where": where,
    }
    if index.method != "btree":
        options["postgresql_using"] = index.method
    return sa.Index(index.name, *keys, **options)


def _key(key: IndexColumn, column: sa.Column[Any], dialect: str) -> sa.ColumnElement[Any]:
    element: sa.ColumnElement[Any] = column
    match key.function:
        case "lower" | "upper":
            element = getattr(sa.func, key.function)(column).label(key.label)
        case "date" if dialect == "postgresql":
            element = sa.cast(column, sa.Date).label(key.label)
        case "date":
            element = sa.func.date(column).label(key.label)
        case str() as unit:
            element = sa.func.date_trunc(unit, column).label(key.label)
    if key.descending:
        element = element.desc()
    if key.nulls_first is not None:
        element = element.nulls_first() if key.nulls_first else element.nulls_last()
    return element


def _condition(condition: Condition) -> sa.ColumnElement[bool]:
    column: sa.ColumnClause[Any] = sa.column(condition.column)
    if condition.test == "=":
        return column == condition.value
    return _TESTS[condition.test](column)


def _compile(index: Index, construct: sa.schema.ExecutableDDLElement) -> str:
    return str(construct.compile(dialect=_DIALECTS[index.dialect])).strip()
