"""An index as Python text: the arguments of Alembic's `create_index`, and `Index(…)` lines for the models.

Every name and constant is written by `repr`, so the text holds nothing that a file of findings could have
put there but Python literals.
"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from upshift.sql.indexes.index import Condition, Index, IndexColumn

_TESTS = {
    "is null": "{}.is_(None)",
    "is not null": "{}.is_not(None)",
    "is true": "{}.is_(sa.true())",
    "is false": "{}.is_(sa.false())",
    "true": "{}",
    "false": "sa.not_({})",
}


def keys(index: Index) -> str:
    """The list of its keys: a name, or an expression where a key is more than a column.

    Example:
        >>> from upshift.sql.indexes.index import Index, IndexColumn
        >>> print(keys(Index("sqlite", "t", (IndexColumn("a"), IndexColumn("b", function="lower")))))
        'a', sa.func.lower(sa.column('b')).label('b_lower')
    """
    return ", ".join(_key(column, index.dialect) for column in index.columns)


def options(index: Index) -> list[str]:
    """The keyword arguments that say what the index is, besides its keys."""
    found = []
    operators = {key.label: key.operator_class for key in index.columns if key.operator_class}
    if index.method != "btree":
        found.append(f"postgresql_using={index.method!r}")
    if operators:
        found.append(f"postgresql_ops={operators!r}")
    if index.include:
        found.append(f"postgresql_include={list(index.include)!r}")
    if index.where:
        conditions = [_condition(each) for each in index.where]
        where = conditions[0] if len(conditions) == 1 else f"sa.and_({', '.join(conditions)})"
        found.append(f"{index.dialect}_where={where}")
    return found


def as_models(indexes: Iterable[Index]) -> str:
    """Return the indexes as lines for the models' `__table_args__`, a table after the other.

    The lines build what `Index.create_sql` builds, but for CONCURRENTLY: a migration is the place for that.

    Example:
        >>> from upshift.sql.indexes.index import Index, IndexColumn
        >>> columns = (IndexColumn("category_id"), IndexColumn("price", descending=True))
        >>> print(as_models([Index("postgresql", "product", columns)]), end="")
        import sqlalchemy as sa
        <BLANKLINE>
        # the model of "product"
        __table_args__ = (
            sa.Index('upshift_product_category_id_price_52aaa700', 'category_id', sa.column('price').desc()),
        )
    """
    parts = ["import sqlalchemy as sa\n"]
    ordered = sorted(indexes, key=lambda index: (index.schema or "", index.table, index.name))
    for (schema, table), group in groupby(ordered, key=lambda index: index.target):
        where = f'"{table}"' + (f' in schema "{schema}"' if schema else "")
        lines = "".join(
            f"    sa.Index({', '.join([repr(index.name), keys(index), *options(index)])}),\n"
            for index in group
        )
        # A name may hold what ends a comment no more than what ends a line: it has no control characters.
        parts.append(f"\n# the model of {where}\n__table_args__ = (\n{lines})\n")
    return "".join(parts)


def _key(key: IndexColumn, dialect: str) -> str:
    """The key as `create_index` takes it: its name, or an expression where there is more to say."""
    column = f"sa.column({key.name!r})"
    match key.function:
        case None if not key.descending and key.nulls_first is None:
            return repr(key.name)
        case None:
            text = column
        case "lower" | "upper":
            text = f"sa.func.{key.function}({column})"
        case "date":
            text = f"sa.cast({column}, sa.Date)" if dialect == "postgresql" else f"sa.func.date({column})"
        case unit:
            text = f"sa.func.date_trunc({unit!r}, {column})"
    label = f".label({key.label!r})" if key.function else ""
    nulls = {None: "", True: ".nulls_first()", False: ".nulls_last()"}[key.nulls_first]
    return text + label + (".desc()" if key.descending else "") + nulls


def _condition(condition: Condition) -> str:
    column = f"sa.column({condition.column!r})"
    if condition.test == "=":
        return f"{column} == {condition.value!r}"
    return _TESTS[condition.test].format(column)
