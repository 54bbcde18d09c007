"""What a statement loads beside the bare objects: relationships eagerly, and wide columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import JSON, LargeBinary, PickleType, Text
from sqlalchemy.sql.expression import FromClause

if TYPE_CHECKING:
    from sqlalchemy.orm import ColumnProperty, Mapper, RelationshipProperty

_EAGER = frozenset({"joined", "selectin", "subquery", "immediate"})
_WIDE = (Text, LargeBinary, JSON, PickleType)


class Eager(NamedTuple):
    """A relationship that a statement loads eagerly.

    Attributes:
        relationship: the relationship.
        is_option: whether an option of the statement says so; else the mapping does.
    """

    relationship: RelationshipProperty[Any]
    is_option: bool


def eager_loads(statement: Any) -> tuple[Eager, ...]:  # noqa: ANN401 - any statement of the ORM
    """Return the relationships that a statement loads eagerly.

    `contains_eager` is left out: its join is there for the conditions of the query.
    """
    named: dict[RelationshipProperty[Any], bool] = {}
    for option in statement._with_options:
        is_own = getattr(option, "propagate_to_loaders", False)  # else it is a fetch plan's
        for element in getattr(option, "context", ()):
            path: Any = element.path.path
            relationship = path[-1] if len(path) % 2 == 0 else path[-2]
            strategy = dict(element.strategy or ()).get("lazy")
            named[relationship] = is_own and strategy in _EAGER and element.propagate_to_loaders
    by_option = [Eager(each, is_option=True) for each, is_eager in named.items() if is_eager]
    by_mapping = [
        Eager(each, is_option=False)
        for mapper in whole_entities(statement)
        for each in mapper.relationships
        if each.lazy in _EAGER and each not in named
    ]
    return (*by_option, *by_mapping)


def wide_columns(statement: Any) -> tuple[ColumnProperty[Any], ...]:  # noqa: ANN401 - likewise
    """Return the wide columns of the objects that a statement loads; none where it names its columns."""
    for option in statement._with_options:
        if any("deferred" in dict(each.strategy or ()) for each in getattr(option, "context", ())):
            return ()
    return tuple(each for mapper in whole_entities(statement) for each in _wide_columns_of(mapper))


def whole_entities(statement: Any) -> list[Mapper[Any]]:  # noqa: ANN401 - likewise
    """Return the classes of which a statement loads objects."""
    entities = [
        column._annotations.get("parententity")
        for column in statement._raw_columns
        if isinstance(column, FromClause)
    ]
    return [each.mapper for each in entities if each is not None]


def _wide_columns_of(mapper: Mapper[Any]) -> tuple[ColumnProperty[Any], ...]:
    keys = set(mapper.primary_key)
    return tuple(
        each
        for each in mapper.column_attrs
        if not each.deferred and isinstance(each.columns[0].type, _WIDE) and each.columns[0] not in keys
    )
