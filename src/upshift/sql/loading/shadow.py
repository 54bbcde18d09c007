"""Checks batching against what it replaces: each batched value beside that of the lazy load.

In shadow mode everything is loaded twice and the application gets the lazy value, so nothing can go wrong but
time. A difference is a fault in batching, or a change that another transaction committed in between.
"""

from __future__ import annotations

import logging
from collections import deque
from decimal import Decimal
from math import isnan
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.orm import RelationshipProperty
    from sqlalchemy.orm.state import InstanceState

logger = logging.getLogger("upshift.sql")

MAX_DIFFERENCES = 100
"""Differences kept, the latest; all are counted."""


class Difference(NamedTuple):
    """A batched value that is not what a lazy load gave.

    Values are not told: they may be personal data.

    Attributes:
        attribute: `Order.items`, or `Order` where its columns were refreshed.
        identity: the primary key of the object that was read.
        detail: what differs, such as `3 objects lazily, 2 batched`.
    """

    attribute: str
    identity: tuple[Any, ...]
    detail: str


class Shadow:
    """Compares, and keeps the differences.

    Attributes:
        compared: values compared.
        different: those that differed.
        differences: the latest of those.
    """

    def __init__(self) -> None:
        self.compared = 0
        self.different = 0
        self.differences: deque[Difference] = deque(maxlen=MAX_DIFFERENCES)

    def compare(
        self,
        state: InstanceState[Any],
        relationship: RelationshipProperty[Any],
        lazy: list[Any],
        batched: list[Any],
    ) -> None:
        """Compare the objects that two ways found for one attribute; their order only where it has one."""
        # By identity: both ways take their objects from one session.
        here, there = [id(each) for each in lazy], [id(each) for each in batched]
        is_same = here == there or (not relationship.order_by and sorted(here) == sorted(there))
        if is_same:
            detail = ""
        elif sorted(here) == sorted(there):
            detail = "the order"
        else:
            detail = f"{_counted(lazy)} lazily, {len(batched)} batched, {len({*here} & {*there})} in both"
        self._note(f"{state.class_.__name__}.{relationship.key}", state, detail)

    def compare_row(self, state: InstanceState[Any], row: Mapping[str, Any]) -> None:
        """Compare a row fetched ahead with the object that has been refreshed meanwhile."""
        names = sorted(
            name
            for name, value in row.items()
            if name in state.dict and not _is_equal(state, name, state.dict[name], value)
        )
        self._note(state.class_.__name__, state, ", ".join(names))

    def _note(self, attribute: str, state: InstanceState[Any], detail: str) -> None:
        self.compared += 1
        if detail:
            identity = state.key[1] if state.key is not None else ()
            self.different += 1
            self.differences.append(Difference(attribute, identity, detail))
            if self.different == 1:
                logger.warning(
                    "batching would have given another value for %s: %s; later differences are only counted",
                    attribute,
                    detail,
                )


def _is_equal(state: InstanceState[Any], name: str, lazy: object, batched: object) -> bool:
    """Compare values as their column's type does; what cannot be compared is no difference."""
    try:
        if state.manager[name].impl.is_equal(lazy, batched):
            return True
    except Exception:  # noqa: BLE001 - a value of the application's own type
        return True
    return all(isinstance(each, float | Decimal) and isnan(each) for each in (lazy, batched))


def _counted(objects: list[Any]) -> str:
    return "1 object" if len(objects) == 1 else f"{len(objects)} objects"
