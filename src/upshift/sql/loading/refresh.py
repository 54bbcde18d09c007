"""Expired objects, refreshed together.

After a commit every object of a session is expired, and reading them in a loop sends one SELECT for each.
Here the reads of one class are a walk like any other: the first is an ordinary refresh, then one statement
fetches the rows of 8, 64, 500 objects. A row waits outside of its object until that is read, so what holds
for batched lazy loads holds for it: the session's next write, or its objects being expired again, throws it
away.

Only columns are fetched, and only for objects that are expired as a whole and otherwise unchanged. Where a
refresh does more than that, it is left to SQLAlchemy: where it loads relationships eagerly, where somebody
listens to refreshes, as mutable and composite attributes do, and where a query may give an attribute its
expression (`query_expression`). Hooks see a batch as the refresh that it is (`is_column_load`), so
`with_loader_criteria` filters no row from it.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

from sqlalchemy import select, tuple_
from sqlalchemy.orm.attributes import set_committed_value
from sqlalchemy.orm.context import FromStatement

from upshift.sql.loading.cohorts import Walk
from upshift.sql.loading.selectin import BATCH, result_of

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Mapping

    from sqlalchemy.engine import Result
    from sqlalchemy.orm import Mapper, ORMExecuteState, Session
    from sqlalchemy.orm.state import InstanceState

_EAGER = {"joined", "selectin", "subquery", "immediate", False}

_AS_REFRESH: Any = FromStatement._compile_options + {"_for_refresh_state": True}

Row = dict[str, Any]
"""Values by the names of the attributes that they are for."""


class Refresh(Walk):
    """The expired objects of one class in one session being read, with the rows fetched ahead for them."""

    __slots__ = ("_mates", "_rows")

    def __init__(self, place: Hashable, level: int) -> None:
        super().__init__(place, level)
        self._rows: dict[InstanceState[Any], Row] = {}
        self._mates: Iterator[InstanceState[Any]] | None = None

    def row(self, session: Session, state: InstanceState[Any], names: frozenset[str]) -> Row | None:
        """Return the row of an object that is being read, or None where a plain refresh is as good.

        Args:
            session: the object's session; what it has to flush has been flushed.
            state: the object, for which `expired_in` has told that it can be refreshed this way.
            names: the attributes that are wanted.
        """
        self.used += 1
        row = self._rows.pop(state, None)
        if row is not None:
            return row if names <= row.keys() else None
        size = self.next_size()
        if self._mates is None:
            expired = [each for each in session.identity_map.all_states() if each.expired]
            at = expired.index(state) if state in expired else 0
            self._mates = iter(expired[at:] + expired[:at])  # whoever reads one reads on from there
        mates = [each for each in self._mates_of(state, size - 1) if names <= each.expired_attributes]
        if not mates:
            return None
        self._rows |= _rows(session, [state, *mates], names)
        return self._rows.pop(state, None)

    def waiting(self, state: InstanceState[Any]) -> Row | None:
        """Return the row that waits for an object, if one does."""
        return self._rows.get(state)

    def end(self) -> None:
        """Throw away what waits: it is out of date."""
        self.is_over = True
        self._rows.clear()

    def _mates_of(self, state: InstanceState[Any], most: int) -> Iterator[InstanceState[Any]]:
        class_ = state.class_
        fit = (
            each
            for each in self._mates or ()
            if each.class_ is class_ and each is not state and _is_whole(each) and each.obj() is not None
        )
        return islice(fit, most)


def expired_in(execution: ORMExecuteState) -> InstanceState[Any] | None:
    """Return the object that a statement refreshes because it is read while expired; None for any other."""
    options: Any = execution.load_options
    state: InstanceState[Any] | None = options._refresh_state
    if state is None or options._is_user_refresh or options._version_check or not _is_whole(state):
        return None
    mapper: Mapper[Any] = state.mapper
    if mapper.class_manager.dispatch.refresh or mapper.concrete or _loads_eagerly(mapper, state):
        return None
    if not all(mapper.class_manager[each.key].impl.accepts_scalar_loader for each in mapper.column_attrs):
        return None
    return state


def wanted_by(execution: ORMExecuteState, state: InstanceState[Any]) -> frozenset[str]:
    """Return the names of the columns' attributes that a refreshing statement is for."""
    statement: Any = execution.statement
    names = statement._compile_options._only_load_props or ()
    columns = state.mapper.column_attrs
    return frozenset(name for name in names if name in columns)


def refreshed(state: InstanceState[Any], row: Mapping[str, Any], names: frozenset[str]) -> Result[Any] | None:
    """Put a row into its object, and return the result that its own statement would have given."""
    instance = state.obj()
    if instance is None:
        return None
    for name in names:
        set_committed_value(instance, name, row[name])
    return result_of((instance,))


def _is_whole(state: InstanceState[Any]) -> bool:
    """Tell whether an object is expired and nothing else: its row is all that it needs."""
    key = state.key
    return bool(state.expired and not state.modified and key and key[2] is None and None not in key[1])


def _loads_eagerly(mapper: Mapper[Any], state: InstanceState[Any]) -> bool:
    """Tell whether a refresh loads relationships too, by their mapping or the object's query."""
    options: Any = state.load_options
    asked = (element.strategy for option in options for element in getattr(option, "context", ()))
    return any(each.lazy in _EAGER for each in mapper.relationships) or any(
        key == "lazy" and value in _EAGER for strategy in asked for key, value in strategy or ()
    )


def _rows(
    session: Session, states: list[InstanceState[Any]], names: frozenset[str]
) -> dict[InstanceState[Any], Row]:
    """Fetch the rows of objects of one class; one that is gone from the database has none."""
    mapper: Mapper[Any] = states[0].mapper
    entity: Any = mapper.class_
    keys = [getattr(entity, mapper.get_property_by_column(column).key) for column in mapper.primary_key]
    by_key = {state.key[1]: state for state in states if state.key is not None}
    is_one = len(keys) == 1
    wanted = [key[0] for key in by_key] if is_one else list(by_key)
    ordered = sorted(names)
    statement: Any = select(*keys, *(getattr(entity, name) for name in ordered)).where(
        (keys[0] if is_one else tuple_(*keys)).in_(wanted)
    )
    statement._compile_options = _AS_REFRESH
    found = session.execute(statement, execution_options={BATCH: True})
    width = len(keys)
    return {
        by_key[key]: dict(zip(ordered, row[width:], strict=True))
        for row in found
        if (key := tuple(row[:width])) in by_key
    }
