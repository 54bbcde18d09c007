"""SQLAlchemy's own selectin loader, run for objects that are already loaded.

This is the only module that reaches into SQLAlchemy's loaders. The loader is used, rather than a query of our
own, because it knows every shape of relationship: composite keys, secondary tables, custom join conditions,
self-references, inheritance. It is given the options that the *objects* were loaded with, so
`with_loader_criteria`, `defer` and nested options reach the batched load as they reach a lazy one.

The loader is handed a `Slot` in place of each object's state. A slot answers as the state does, except that
a loaded value comes to rest in the slot and does not reach the object: what becomes of it is for the caller
to say.
"""

from __future__ import annotations

import inspect
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import sqlalchemy
from sqlalchemy.engine import IteratorResult
from sqlalchemy.engine.result import SimpleResultMetaData
from sqlalchemy.orm import loading, strategies
from sqlalchemy.orm.context import QueryContext
from sqlalchemy.util import immutabledict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from sqlalchemy.engine import Result
    from sqlalchemy.orm import RelationshipProperty, Session
    from sqlalchemy.orm.state import InstanceState

COVERED_VERSIONS = ("2.0", "2.1")
"""Minor versions on which `tests/contract` runs."""

new_number: Callable[[], int] = loading._new_runid
"""Draws the next of the numbers that executions get, and the states of what they loaded (`runid`)."""

BATCH = "upshift_batch"
"""The execution option that marks a batched load."""

_STRATEGY = (("lazy", "selectin"),)
_LOADER: Any = getattr(strategies, "_SelectInLoader", None) or getattr(strategies, "SelectInLoader", None)
_PARAMETERS = (
    "self",
    "context",
    "path",
    "states",
    "load_only",
    "effective_entity",
    "loadopt",
    "recursion_depth",
    "execution_options",
)
_UNIQUE_BY_IDENTITY: dict[str, Any] = (
    {"_create_unique_filters": lambda _: [id]}
    if "_create_unique_filters" in inspect.signature(SimpleResultMetaData).parameters
    else {"_unique_filters": [id]}
)


def is_covered() -> bool:
    """Tell whether this SQLAlchemy is one whose loader the contract tests cover."""
    minor = ".".join(sqlalchemy.__version__.split(".")[:2])
    return (
        minor in COVERED_VERSIONS
        and _LOADER is not None
        and tuple(inspect.signature(_LOADER._load_for_path).parameters) == _PARAMETERS
    )


def is_loadable(relationship: RelationshipProperty[Any]) -> bool:
    """Tell whether the loader finds what a lazy load finds.

    It does not on SQLAlchemy 2.0 where the target is read from a polymorphic subquery, as in concrete
    inheritance: it selects from that subquery and from the table, and joins them by no condition.
    """
    polymorphic = relationship.mapper.with_polymorphic
    return polymorphic is None or polymorphic[1] is None


class Slot:
    """Stands for an object's state while the loader runs, and keeps the value loaded for it.

    Attributes:
        state: the state it stands for.
        dict: the object's loaded attributes.
        key: the object's identity.
        value: what was loaded: an object or None, or a sequence of objects.
    """

    __slots__ = ("dict", "key", "state", "value")

    def __init__(self, state: InstanceState[Any], loaded: dict[str, Any]) -> None:
        self.state = state
        self.dict = loaded
        self.key = state.key
        self.value: Any = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.state, name)

    def get_impl(self, _key: str) -> Slot:
        """Return what the loader hands the value to."""
        return self

    def set_committed_value(self, _state: object, _dict: object, value: Any) -> None:
        """Take the value."""
        self.value = value


class _Context:
    """The part of a `QueryContext` that the loader reads."""

    populate_existing = False

    def __init__(self, session: Session, options: Sequence[Any]) -> None:
        self.session = session
        # The loader compares the statement with the cached one: here they are the same.
        statement = SimpleNamespace(_with_options=tuple(options))
        self.user_passed_query = self.query = statement
        self.compile_state = SimpleNamespace(select_statement=statement)

    def _loader_strategy_options(self) -> tuple[Any, ...]:
        options: tuple[Any, ...] = self.query._with_options
        return options


def load_related(
    session: Session, state: InstanceState[Any], path: Any, slots: Sequence[Slot], *, autoflush: bool = True
) -> None:
    """Load one relationship of many objects into their slots, with one SELECT for each 500 of them.

    What comes is what lazy loads would return: an object or None, or a sequence of objects.

    Args:
        session: the session that the objects belong to.
        state: one of the objects; `load_options` and `load_path` of the others must be equal to its.
        path: the loader path of the relationship, as the lazy load of `state` has it.
        slots: the objects' slots.
        autoflush: flush the session first if it is set to.
    """
    relationship: RelationshipProperty[Any] = path.prop
    loader: Any = relationship._get_strategy(_STRATEGY)
    load_options = QueryContext.default_load_options + {
        # As a lazy load does: objects that are in the session already are not eagerly completed.
        "_invoke_all_eagers": False,
        "_autoflush": autoflush,
        # `do_orm_execute` hooks that treat lazy loads in some way shall treat this one so.
        "_lazy_loaded_from": state,
    }
    loader._load_for_path(
        _Context(session, state.load_options),
        path.parent,
        [(slot, True) for slot in slots],
        None,
        loader.entity,
        None,
        None,
        immutabledict({"_sa_orm_load_options": load_options, BATCH: True}),
    )
    if relationship.uselist and may_repeat(relationship):
        for slot in slots:
            slot.value = list({id(one): one for one in slot.value}.values())


def asks_by_key(relationship: RelationshipProperty[Any]) -> bool:
    """Tell whether nothing but the key of an object says what its relationship leads to.

    Else a lazy load asks by the columns as the object has them, and the loader by those of its row, which may
    be newer where DML has changed them since the object was loaded.
    """
    mapper, key = relationship.parent, set(relationship.parent.primary_key)
    local = map(mapper.get_property_by_column, relationship.local_columns)
    return all(not key.isdisjoint(each.columns) for each in local)


def may_repeat(relationship: RelationshipProperty[Any]) -> bool:
    """Tell whether the rows may name an object twice for one parent; a lazy load gives it once even so."""
    loader: Any = relationship._get_strategy(_STRATEGY)
    if loader.entity.is_aliased_class:
        return True
    if relationship.secondary is None:
        return False
    keys = set(relationship.secondary.primary_key)
    return not keys or not keys <= relationship.remote_side


def result_of(values: Iterable[Any]) -> Result[Any]:
    """Return the result that a lazy load's own statement would have given.

    Example:
        >>> result_of(["a", "b"]).unique().scalars().all()
        ['a', 'b']
    """
    metadata = SimpleResultMetaData(["value"], **_UNIQUE_BY_IDENTITY)
    return IteratorResult(metadata, iter([(value,) for value in values]))
