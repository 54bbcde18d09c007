"""Joined eager loads of several collections in one SELECT, whose rows multiply.

An author with ten books and ten prizes is a hundred rows when both are joined, for twenty-one objects. How
many objects there are is counted by their keys, in the first rows of the result, and only where a SELECT
joins two collections or more that are not within each other.

What tells this is the compiled statement's state, which is not public: `tests/contract` pins it for each
SQLAlchemy version.
"""

from __future__ import annotations

from itertools import combinations
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from upshift.record.model import Product

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

MAX_ROWS = 1_000
"""Rows of a result that are looked at."""

_SEVERAL = 2

Path = tuple[Any, ...]
"""A loader path as SQLAlchemy has it: entity, relationship, entity, …, relationship."""


class JoinedCollections(NamedTuple):
    """Collections that one SELECT joins side by side.

    Attributes:
        names: their relationships, as `Model.attribute`.
        keys: read from a row the keys of its objects.
    """

    names: tuple[str, ...]
    keys: tuple[Callable[[Any], Any], ...]

    def product(self, rows: Sequence[Any]) -> Product | None:
        """Count the objects in the first rows; None where their keys cannot be compared."""
        rows = rows[:MAX_ROWS]
        try:
            objects = sum(len(set(map(key, rows))) for key in self.keys)
        except TypeError:  # a key that is a list, say
            return None
        return Product(self.names, len(rows), objects)


def joined_collections(context: Any) -> JoinedCollections | None:  # noqa: ANN401 - it has no type of its own
    """Return the collections that a statement joins side by side; None where there are no two of them."""
    attributes = context.compiled.compile_state.attributes
    paths = [key[1] for key in attributes if isinstance(key, tuple) and key[0] == "eager_row_processor"]
    aside = {path for pair in combinations(paths, _SEVERAL) if _are_side_by_side(*pair) for path in pair}
    if not aside:
        return None
    names = (f"{path[-1].parent.class_.__name__}.{path[-1].key}" for path in paths if path in aside)
    return JoinedCollections(tuple(names), tuple(_keys(context.compiled._result_columns)))


def _are_side_by_side(one: Path, other: Path) -> bool:
    """Whether each leads through a collection after they part."""
    common = next((place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a is not b), None)
    return common is not None and all(
        any(relationship.uselist for relationship in path[common | 1 :: 2]) for path in (one, other)
    )


def _keys(columns: Iterable[Any]) -> Iterable[Callable[[Any], Any]]:
    """What reads the primary key of each table from a row."""
    positions: dict[int, list[int]] = {}
    for position, column in enumerate(columns):
        for each in column.objects:
            if getattr(each, "primary_key", False) and getattr(each, "table", None) is not None:
                positions.setdefault(id(each.table), []).append(position)
                break
    return (itemgetter(*found) for found in positions.values())
