"""Plans that are served by options of the statement itself, and what keeps their values those of lazy loads.

A value that waits beside its object (`upshift.sql.fetch_plans.waiting`) is safe by itself, and costs a few
microseconds; each relationship takes a statement. A plan whose values are read as a rule is served *directly*
instead: its relationships become `joinedload` and `selectinload` options of the statement, as one would write
them by hand. Its values are in their objects at once then.

The invariant is the same: *an attribute read with a plan has the value that a lazy load at that moment would
give it.* Until the session changes something, they are equal. So before the first change the values that
nobody has read yet are taken out of their objects again, and load lazily. What has been read stays, as it
would after a lazy load. That takes five things:

1. **Who has been read** is noted by the attribute's descriptor (`upshift.sql.fetch_plans.reads`).
2. **Which values are the plan's** is told by the numbers of the executions that brought the objects. It is
   sure only if no object of these classes was in the session before, and nothing else fills them. So the
   session must not know the classes yet, and a later statement with options ends it.
3. **The first change.** A lazy load flushes what is pending, so a change counts from the moment when it is
   pending (`upshift.sql.fetch_plans.changes`). An attribute that is set looks for its old value first, and a
   back reference changes a collection without any note: `reads` tells of both. And `delete`, `expire`,
   `expunge`, `refresh` and `merge` go on to what is loaded, so they end it as well.
4. **What is not read is in the session even so**, and is found there by its identity. While nothing changes,
   it is what a lazy load would bring, as long as there are no loader options: so no object in the session may
   have some. Afterwards nobody holds it and it is gone, unless it stands in a ring; so no class may have
   relationships that are always eager and lead to others (`_leads_in_rings`).
5. **The options stay behind.** Objects remember their statement's options for lazy loads to come; these do
   not propagate to them.

A statement is served directly only where it is plain (`is_plain`); all others wait, as before. And one
execution in `WAITING_TURN` waits even so, to see what is still read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import finalize

from sqlalchemy import Select
from sqlalchemy.orm import Load, joinedload, selectinload
from sqlalchemy.sql import visitors

from upshift.sql.fetch_plans.changes import is_changed, tells_of
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


_EAGER = frozenset({"joined", "selectin", "subquery", "immediate", False})
"""How relationships are loaded that their class has loaded with its objects."""


class Direct(NamedTuple):
    """A plan as options of its statement.

    Attributes:
        option: all of it; the same object for each statement, so that SQLAlchemy's cache knows it.
        root: the class of the statement's objects.
        nodes: by class, the relationships that it loads of its objects.
        watched: these, and the others by which one of its objects may find another.
        classes: the identity classes of all objects that it brings.
    """

    option: Load
    root: type[Any]
    nodes: dict[type[Any], list[Node]]
    watched: tuple[RelationshipProperty[Any], ...]
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
    mappers = dict.fromkeys((root, *(each.mapper for each in nodes)))
    if any(_leads_in_rings(each) for each in mappers):
        return None
    others = (each for mapper in mappers for each in mapper.relationships if each._reverse_property)
    watched = tuple(dict.fromkeys((*nodes, *others)))
    return Direct(option, root.class_, by_class, watched, frozenset(each.class_ for each in mappers))


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


def _leads_in_rings(mapper: Mapper[Any]) -> bool:
    """Tell whether what is always eager may form rings, which stay in a session when nobody holds them."""
    targets = (each for target in _always_eager(mapper) for each in target.self_and_descendants)
    return any(map(_always_eager, targets))


def _always_eager(mapper: Mapper[Any]) -> list[Mapper[Any]]:
    return [each.mapper for each in mapper.relationships if each.lazy in _EAGER]


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
    """Tell whether a session is unchanged, and knows none of the classes of a plan, nor loader options."""
    if is_changed(session) or session._flushing:
        return False
    known: Any = session.identity_map
    states = known.all_states()
    return len(states) <= MAX_KNOWN and not any(
        state.key[0] in direct.classes or state.load_options for state in states
    )


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
        self._tells: list[Callable[[], None]] = []
        self._tell: Callable[[], None] | None = None
        for node, noted in self._reads:
            self._read[node.relationship] = noted.open[self._session_id] = set()
        self._gone = finalize(session, _close, [noted for _, noted in self._reads], self._session_id)
        self._gone.atexit = False

    def watch(self, session: Session, on_change: Callable[[], None]) -> None:
        """Have the session tell before a change."""
        self._tells, self._tell = tells_of(session), on_change
        self._tells.append(on_change)

    def is_unread(self) -> bool:
        """Tell whether a relationship of the statement's own objects has not been read at all."""
        return any(not self._read[each.relationship] for each in self._nodes.get(self._root, ()))

    def end(self, session: Session | None) -> int:
        """Take out what has not been read, and return how many values that were."""
        self._gone.detach()
        if self._tell is not None:
            self._tells.remove(self._tell)
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
