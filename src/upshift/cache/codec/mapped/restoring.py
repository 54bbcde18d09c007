"""Mapped objects read: made without `__init__`, as a query makes them, in a session or without one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy.orm.loading import _new_runid

from upshift.errors import CodecError

if TYPE_CHECKING:
    from sqlalchemy.orm import RelationshipProperty, Session
    from sqlalchemy.orm.state import InstanceState

    from upshift.cache.codec.mapped.gathering import Graph, Group
    from upshift.cache.codec.mapped.plan import MapperPlan, Plans

_NOT_THERE = "a kept value leads to an object that it does not have"


class Restored:
    """The objects of a graph.

    Args:
        graph: the graph.
        plans: the plans of mappers.
        session: where the objects belong; an object that it has already is taken as it is there. None for
            objects that are detached.

    Raises:
        Exception: of many kinds, where the graph is no proper one.
    """

    def __init__(self, graph: Graph, plans: Plans, session: Session | None) -> None:
        mapped = [plans.named(name, fingerprint) for name, fingerprint in graph.mappers]
        members = [_Members(mapped[group.mapper], group) for group in graph.groups]
        if graph.count != sum(each.count for each in members):
            raise CodecError("a kept value has more or fewer objects than it says")
        self._objects: list[Any] = [None] * graph.count
        for each in members:
            each.make(self._objects, session)
        if any(each is None for each in self._objects):
            raise CodecError(_NOT_THERE)
        for each in members:
            for at, targets in zip(each.group.links, each.group.targets, strict=True):
                self._link(each.plan.relationships[at], each.states, targets)
        for each in members:
            each.tell(session)

    def __getitem__(self, number: int) -> Any:
        """Return the object with a number."""
        if number < 0:
            raise CodecError(_NOT_THERE)
        return self._objects[number]

    def run(self, first: int, end: int) -> list[Any]:
        """Return objects whose numbers follow each other."""
        found = self._objects[first:end]
        if first < 0 or len(found) != end - first:
            raise CodecError(_NOT_THERE)
        return found

    def _link(
        self,
        relationship: RelationshipProperty[Any],
        states: list[InstanceState[Any] | None],
        targets: list[Any],
    ) -> None:
        name, class_ = relationship.key, relationship.mapper.class_
        for state, target in zip(states, targets, strict=True):
            if isinstance(target, list) is not bool(relationship.uselist):
                raise CodecError(f"a kept value has no proper {name}")
            numbers = target if isinstance(target, list) else [] if target is None else [target]
            found = [self[number] for number in numbers]
            if not all(isinstance(one, class_) for one in found):
                raise CodecError(f"a kept value has something else for {name}")
            if state is not None:
                value = found if relationship.uselist else found[0] if found else None
                impl: Any = state.manager[name].impl
                impl.set_committed_value(state, state.dict, value)


class _Members:
    """The objects of a group.

    Args:
        plan: the plan of its mapper.
        group: the group.

    Attributes:
        plan: the plan.
        group: the group.
        count: how many there are.
        states: the state of each object that was made; None for those that were there already.

    Raises:
        Exception: of many kinds, where the group is no proper one.
    """

    def __init__(self, plan: MapperPlan, group: Group) -> None:
        self.plan = plan
        self.group = group
        self._layout = plan.layout(group.columns, group.codes)
        self._columns = self._layout.columns.decode(group.values)
        if len(self._columns) != len(group.columns) + len(group.names) or any(map(plan.knows, group.names)):
            raise CodecError("a kept value has no proper columns")
        self.count = len(self._columns[0])
        self.states: list[InstanceState[Any] | None] = []

    def make(self, objects: list[Any], session: Session | None) -> None:
        """Make the objects, and put them into a list at their numbers.

        Each object of a value passes through here, so this counts its steps.
        """
        plan, group, columns = self.plan, self.group, self._columns
        class_, root, manager = plan.mapper.class_, plan.mapper._identity_class, plan.mapper.class_manager
        new: Any = class_.__new__
        make_state, set_dict = manager._state_constructor, object.__setattr__
        token = plan.tagged.decode(group.token) if group.token else None
        made = [new(class_) for _ in columns[0]]
        states: list[Any] = [make_state(one, manager) for one in made]
        dicts = self._layout.fill(states, columns[: len(group.columns)])
        identities = zip(*(columns[at] for at in self._layout.key), strict=True)
        for one, its, state, identity in zip(made, dicts, states, identities, strict=True):
            set_dict(one, "__dict__", its)
            state.key = (root, identity, token)
        if session is not None:
            _attach(made, states, session)
        expired = [plan.columns[at] for at in group.expired]
        if expired or token is not None:
            for state in filter(None, states):
                state.expired_attributes.update(expired)
                state.identity_token = token
        self.states = states
        first = group.numbers[0]
        numbers = range(first, first + self.count) if len(group.numbers) == 1 else group.numbers
        for number, one in zip(numbers, made, strict=True):
            objects[number] = one

    def tell(self, session: Session | None) -> None:
        """Send the events of objects that a query has loaded, and add what is not mapped."""
        on_load: Any = self.plan.mapper.class_manager.dispatch.load
        on_persistent: Any = None if session is None else session.dispatch.loaded_as_persistent
        names = self.group.names
        if not on_load and not on_persistent and not names:
            return
        others = self._columns[len(self.group.columns) :]
        for at, state in enumerate(self.states):
            if state is not None:
                if on_load:
                    on_load(state, None)  # there is no query, as in `Session.merge(load=False)`
                if on_persistent:
                    on_persistent(session, state)
                state.dict.update((name, values[at]) for name, values in zip(names, others, strict=True))


def _attach(made: list[Any], states: list[Any], session: Session) -> None:
    """Let a session have objects, as SQLAlchemy's `loading._instance` does; in place, with those it has."""
    there, add = session.identity_map._dict, session.identity_map._add_unpresent
    runid, session_id = _new_runid(), session.hash_key
    for at, state in enumerate(states):
        key = state.key
        if there and (known := there.get(key)) is not None and (found := known.obj()) is not None:
            made[at], states[at] = found, None  # whatever it is like there
        else:
            state.runid = runid
            state.session_id = session_id
            add(state, key)
