"""Plans that are served by options of the statement itself, and what keeps their values those of lazy loads.

A value that waits beside its object (`upshift.sql.fetch_plans.waiting`) is safe by itself, and costs a few
microseconds; each relationship takes a statement. A plan whose values are read as a rule is served *directly*
instead: its relationships become `joinedload` and `selectinload` options of the statement, as one would write
them by hand. Its values are in their objects at once then.

The invariant is the same: *an attribute read with a plan has the value that a lazy load at that moment would
give it.* Until the session changes something, they are equal. So before the first change the values that
nobody has read yet are taken out of their objects again, and load lazily. What has been read stays, as it
would after a lazy load. That takes four things:

1. **Who has been read** is noted by the attribute's descriptor (`upshift.sql.fetch_plans.reads`).
2. **Which values are the plan's** is told by the numbers of the executions that brought the objects. It is
   sure only if no object of these classes was in the session before, and nothing else fills them. So the
   session must not know the classes yet, and a later statement with options ends it.
3. **The first change.** A lazy load flushes what is pending, so a change counts from the moment when it is
   pending. SQLAlchemy has no event for that; it notes every change in three containers of the session, which
   tell it here. A back reference changes a collection without that; `reads` listens there.
4. **The options stay behind.** Objects remember their statement's options for lazy loads to come; these do
   not propagate to them.

A statement is served directly only where it is plain (`is_plain`); all others wait, as before. And one
execution in `WAITING_TURN` waits even so, to see what is still read.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import finalize

from sqlalchemy import Select
from sqlalchemy.orm import Load, joinedload, selectinload
from sqlalchemy.sql import visitors

from upshift.sql.fetch_plans.waiting import Waiting
from upshift.sql.loading.preload import what_is_wanted
from upshift.sql.loading.selectin import is_loadable, may_repeat

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from sqlalchemy.orm import Mapper, ORMExecuteState, RelationshipProperty, Session
    from sqlalchemy.orm.state import InstanceState

    from upshift.sql.fetch_plans.plan import Node, Plan
    from upshift.sql.fetch_plans.reads import Reads

MAX_KNOWN = 64
"""Objects that a session may hold already; looking through more costs more than options save."""

MAX_JOINS = 4
"""Relationships that are joined to one statement; further ones take a statement each."""

_CLAUSES = (
    "_distinct",
    "_for_update_arg",
    "_from_obj",
    "_group_by_clauses",
    "_having_criteria",
    "_hints",
    "_independent_ctes",
    "_prefixes",
    "_setup_joins",
    "_statement_hints",
    "_suffixes",
    "_with_options",
)
"""What a statement has that does not only select objects of one class."""


class Direct(NamedTuple):
    """A plan as options of its statement.

    Attributes:
        option: all of it; the same object for each statement, so that SQLAlchemy's cache knows it.
        root: the class of the statement's objects.
        nodes: by class, the relationships that it loads of its objects.
        classes: the identity classes of all objects that it brings.
    """

    option: Load
    root: type[Any]
    nodes: dict[type[Any], list[Node]]
    classes: frozenset[type[Any]]


def direct_of(root: Mapper[Any], plan: Plan) -> Direct | None:
    """Return a plan as options, or None where that would not surely give what lazy loads give."""
    todo = [each for each in plan.children.values() if each.is_active]
    nodes: dict[RelationshipProperty[Any], Node] = {}
    while todo:
        node = todo.pop()
        if not _is_plain_relationship(node):
            return None
        nodes.setdefault(node.relationship, node)
        todo += (each for each in node.children.values() if each.is_active)
    if not nodes or not _is_plain_class(root) or any(each.parent is not root for each in plan.children):
        return None
    by_class: dict[type[Any], list[Node]] = {}
    for relationship, node in nodes.items():
        by_class.setdefault(relationship.parent.class_, []).append(node)
    option = Load(root.class_).options(*_options(plan.children.values(), [MAX_JOINS]))
    option.propagate_to_loaders = False
    mappers = (root, *(each.mapper for each in nodes))
    return Direct(option, root.class_, by_class, frozenset(each.class_ for each in mappers))


def _options(nodes: Iterable[Node], joins: list[int]) -> list[Any]:
    options: list[Any] = []
    for node in nodes:
        if not node.is_active:
            continue
        relationship = node.relationship
        attribute = getattr(relationship.parent.class_, relationship.key)
        # At most one row for each object, so neither LIMIT nor the number of rows is affected.
        is_joined = joins[0] > 0 and what_is_wanted(relationship) is not None
        joins[0] -= is_joined
        load = joinedload(attribute) if is_joined else selectinload(attribute)
        below = _options(node.children.values(), joins if is_joined else [MAX_JOINS])
        options.append(load.options(*below) if below else load)
    return options


def _is_plain_relationship(node: Node) -> bool:
    relationship = node.relationship
    if node.is_eager or relationship.lazy not in {"select", True} or not is_loadable(relationship):
        return False
    return (
        _is_plain_class(relationship.parent)
        and _is_plain_class(relationship.mapper)
        and not may_repeat(relationship)
    )


def _is_plain_class(mapper: Mapper[Any]) -> bool:
    return mapper.inherits is None and len(mapper.self_and_descendants) == 1


def is_plain(execution: ORMExecuteState, root: Mapper[Any]) -> bool:
    """Tell whether options may be added to a statement: it does nothing but to select objects of a class."""
    statement: Any = execution.statement
    if type(statement) is not Select or len(statement._raw_columns) != 1:
        return False
    entity = statement._raw_columns[0]
    if not entity._is_from_clause or entity._annotations.get("parententity") is not root:
        return False
    load, options = execution.load_options, getattr(statement, "_compile_options", None)
    if (
        any(getattr(statement, name, None) for name in _CLAUSES)
        or load._populate_existing
        or load._yield_per
        or load._identity_token
        or load._refresh_state
        or not getattr(options, "_enable_eagerloads", True)
        or getattr(options, "_only_load_props", None)
    ):
        return False
    # Another's listener may add options of its own, of which some reach eager loads and not lazy ones.
    listeners: Any = execution._remaining_events()
    if not all((getattr(each, "__module__", None) or "").startswith("upshift.") for each in listeners):
        return False
    # A name that is written as text may mean another column as well once a table is joined.
    written = (*statement._where_criteria, *statement._order_by_clauses)
    return not any(_is_text(part) for clause in written for part in visitors.iterate(clause))


def _is_text(part: Any) -> bool:  # noqa: ANN401 - any element of SQL
    return part.__visit_name__ in {"textclause", "textual_label_reference"} or getattr(
        part, "is_literal", False
    )


def is_new_to(session: Session, direct: Direct) -> bool:
    """Tell whether a session is unchanged, and knows none of the classes of a plan."""
    if is_changed(session) or session._flushing:
        return False
    known: Any = session.identity_map
    keys = list(known._dict)
    return len(keys) <= MAX_KNOWN and not any(key[0] in direct.classes for key in keys)


def is_changed(session: Session) -> bool:
    """Tell whether a session has changes to flush."""
    known: Any = session.identity_map
    return bool(known._modified or session._new or session._deleted)


class _Marks(dict[Any, Any]):
    """The states that a session notes as new or deleted, which tells of each before it does."""

    def __init__(self, noted: dict[Any, Any]) -> None:
        super().__init__(noted)
        self.tells: list[Callable[[Any], None]] = []

    def __setitem__(self, state: Any, value: Any) -> None:  # noqa: ANN401 - as SQLAlchemy has them
        for tell in tuple(self.tells):
            tell(state)
        super().__setitem__(state, value)


class _Modified(set[Any]):
    """The states that a session notes as modified, which tells of each before it does."""

    def __init__(self, noted: set[Any]) -> None:
        super().__init__(noted)
        self.tells: list[Callable[[Any], None]] = []

    def add(self, state: Any) -> None:  # noqa: ANN401 - as SQLAlchemy has them
        for tell in tuple(self.tells):
            tell(state)
        super().add(state)


class Held:
    """Values that one execution loaded directly into the objects of one session.

    Args:
        session: the session.
        plan: the plan. direct: how it was loaded.
        reads: who has been read, by relationship.
        numbers: the first and the last number that the executions may have had.
        is_async: whether reads may happen where no lazy load is possible.
    """

    def __init__(  # noqa: PLR0913 - one call site
        self,
        session: Session,
        plan: Plan,
        direct: Direct,
        reads: dict[RelationshipProperty[Any], Reads],
        *,
        numbers: tuple[int, int],
        is_async: bool,
    ) -> None:
        self.plan = plan
        self.waiting: list[Waiting] = []
        self._first, self._last = numbers
        self._is_async = is_async
        self._session_id = session.hash_key
        self._identities: Any = session.identity_map
        self._reads = [(node, reads[node.relationship]) for each in direct.nodes.values() for node in each]
        self._nodes = direct.nodes
        self._root = direct.root
        self._read: dict[RelationshipProperty[Any], set[InstanceState[Any]]] = {}
        self._told: list[Any] = []
        for node, noted in self._reads:
            self._read[node.relationship] = noted.open[self._session_id] = set()
        self._gone = finalize(session, _close, [noted for _, noted in self._reads], self._session_id)
        self._gone.atexit = False

    def watch(self, session: Session, on_change: Callable[[], None]) -> None:
        """Have the session tell before it notes a change."""

        def on_delete(state: InstanceState[Any]) -> None:
            self._note_deletion(state)
            on_change()

        def on_note(_state: InstanceState[Any]) -> None:
            on_change()

        identities: Any = session.identity_map
        if type(identities._modified) is not _Modified:
            identities._modified = _Modified(identities._modified)
        if type(session._new) is not _Marks:
            session._new = _Marks(session._new)
        if type(session._deleted) is not _Marks:
            session._deleted = _Marks(session._deleted)
        self._told = [
            (identities._modified.tells, on_note),
            (session._new.tells, on_note),
            (session._deleted.tells, on_delete),
        ]
        for tells, tell in self._told:
            tells.append(tell)

    def forget(self, state: InstanceState[Any]) -> None:
        """Have an object load anew what has not been read of it, as something of it was expired."""
        for node in self._nodes.get(state.class_, ()):
            read = self._read[node.relationship]
            if state not in read:
                state.dict.pop(node.relationship.key, None)
                read.add(state)

    def _note_deletion(self, state: InstanceState[Any]) -> None:
        """Note what SQLAlchemy has read to delete an object with those that depend on it."""
        self._note_cascading(state)
        for _, _, below, _ in state.mapper.cascade_iterator("delete", state):
            self._note_cascading(below)

    def _note_cascading(self, state: InstanceState[Any]) -> None:
        for relationship, read in self._read.items():
            if relationship.cascade.delete:
                read.add(state)

    def is_unread(self) -> bool:
        """Tell whether a relationship of the statement's own objects has not been read at all."""
        return any(not self._read[each.relationship] for each in self._nodes.get(self._root, ()))

    def end(self, session: Session | None) -> int:
        """Take out what has not been read, and return how many values that were."""
        self._gone.detach()
        for tells, tell in self._told:
            with suppress(ValueError):
                tells.remove(tell)
        unread: dict[Node, list[tuple[InstanceState[Any], Any]]] = {}
        for state in self._identities.all_states():
            number = state.runid
            if number is None or not self._first <= number <= self._last:
                continue
            loaded = state.dict
            for node in self._nodes.get(state.class_, ()):
                relationship = node.relationship
                if relationship.key in loaded and state not in self._read[relationship]:
                    unread.setdefault(node, []).append((state, loaded.pop(relationship.key)))
        for node, noted in self._reads:
            if noted.open.get(self._session_id) is self._read[node.relationship]:
                del noted.open[self._session_id]
        if self._is_async and session is not None:
            for node, values in unread.items():
                self._let_wait(node, values, session)
        return sum(map(len, unread.values()))

    def _let_wait(self, node: Node, values: list[tuple[InstanceState[Any], Any]], session: Session) -> None:
        wanted_by = what_is_wanted(node.relationship)
        waiting = Waiting(node, session, values[0][0], wanted_by=wanted_by, is_async=True)
        if node.relationship.uselist:
            values = [(state, list(value._sa_adapter)) for state, value in values]
        waiting.hold(values)
        waiting.write()
        self.waiting.append(waiting)


def _close(reads: list[Reads], session_id: int) -> None:
    for each in reads:
        each.open.pop(session_id, None)
