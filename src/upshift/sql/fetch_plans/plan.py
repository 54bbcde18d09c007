"""What was learned of the statements of an application: pure bookkeeping, no SQL.

A *place* is a statement as the application knows it: a route, a line, a class and the shape of the query. A
*plan* is the tree of relationships that are read of its objects. A node of it is fetched when loading it
lazily was seen to cost more statements than fetching it costs objects, and so was every node on the way to
it.

Loading one more object in a statement that is sent anyway takes about a twentieth of what a statement of its
own takes. So an eager load pays off from the twentieth part of its values read on; it is given up below the
fortieth, and only after many requests. What was given up has to be seen twice as often the next time, so a
plan settles, however the use goes up and down.
"""

from __future__ import annotations

from collections import OrderedDict
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.orm import Mapper, RelationshipProperty

    from upshift.record import CallSite
    from upshift.sql.fetch_plans.direct import Direct

    Path = tuple[RelationshipProperty[Any], ...]

WORTH = 20
"""Objects that are fetched in the time that one statement more takes."""

TRIAL = 16
"""Fetches after which the use of a node is looked at."""

OBSERVED = 10
"""Fetches after which a plan whose values are read is served by options of its statement."""

MAX_OBSERVED = 640
"""Fetches that it takes again for one whose session often writes before it reads."""

WAITING_TURN = 16
"""Of so many executions of such a plan one has its values wait, to see which are read."""

PATIENCE = 1_000
"""Fetches without any use after which a node is given up whose lazy load failed: it fails again then."""

MAX_EVIDENCE = 64
"""Requests that a node given up many times has to be seen in."""

MAX_PLANS = 1_024
"""Plans kept; the one unused for longest makes room."""

MAX_DEPTH = 8
"""Relationships from the statement's objects down."""

MAX_NODES = 64
"""Relationships that one plan knows."""


class Place(NamedTuple):
    """A statement as the application knows it.

    Attributes:
        operation: method and route; what all work outside of requests shares, where there was no request.
        site: the line that executes it. root: the mapper of its first entity. shape: what tells apart
        statements for one class that one line executes: how many conditions, joins and
            options it has.
    """

    operation: str
    site: CallSite
    root: Mapper[Any]
    shape: tuple[int, ...]


class Node:
    """One relationship of the objects that a node above loaded, or the statement.

    Attributes:
        relationship: the relationship.
        children: what is read of the objects that it leads to.
        is_worthy: whether enough objects had it read for fetching it to pay off.
        is_wanted: whether lazy loads of it were repeated, or failed.
        has_failed: whether a lazy load of it was tried where none is possible.
        is_eager: whether the application loads it eagerly itself, and what is below it lazily.
        fetches: how often it was fetched since its use was looked at.
        fetched: values fetched.
        used: values of those that were read.
    """

    __slots__ = (
        "_evidence",
        "_needed",
        "children",
        "fetched",
        "fetches",
        "has_failed",
        "is_eager",
        "is_wanted",
        "is_worthy",
        "relationship",
        "used",
    )

    def __init__(self, relationship: RelationshipProperty[Any]) -> None:
        self.relationship = relationship
        self.children: dict[RelationshipProperty[Any], Node] = {}
        self.is_worthy = False
        self.is_wanted = False
        self.has_failed = False
        self.is_eager = False
        self.fetches = 0
        self.fetched = 0
        self.used = 0
        self._evidence = 0
        self._needed = 1

    @property
    def is_active(self) -> bool:
        """Whether it is fetched, provided that what is above it is."""
        return self.is_worthy and (self.is_wanted or any(each.is_active for each in self.children.values()))

    def want(self) -> None:
        """Count one request in which lazy loads of it were repeated."""
        self._evidence += 1
        if self._evidence >= self._needed:
            self.is_wanted = True

    def fail(self) -> None:
        """Note that a lazy load of it was not possible: there is no second chance to learn from."""
        self.is_worthy = self.is_wanted = self.has_failed = True

    def count(self, values: int) -> None:
        """Count a fetch of so many values, and forget half of what was long ago."""
        self.fetches += 1
        self.fetched += values
        if self.fetches % TRIAL == 0 and not self.has_failed:
            self.fetched //= 2
            self.used //= 2

    @property
    def is_out_of_use(self) -> bool:
        """Whether its values are not read any more, or too few of them."""
        if self.has_failed:
            return self.fetches >= PATIENCE and not self.used
        return self.fetches >= TRIAL and self.used * 2 * WORTH < self.fetched

    @property
    def is_read(self) -> bool:
        """Whether its values are read as a rule; those that were fetched last may still be."""
        return self.used * 4 >= self.fetched * 3 > 0

    def give_up(self) -> None:
        """Load it lazily again, with all below it, and ask for more evidence the next time."""
        self._needed = min(self._needed * 2, MAX_EVIDENCE)
        self._evidence = self.fetches = self.fetched = self.used = 0
        self.is_worthy = self.is_wanted = self.has_failed = False
        for child in self.children.values():
            child.is_worthy = child.is_wanted = child.has_failed = False


class Plan:
    """What is read of the objects of one statement.

    Attributes:
        children: the relationships of these objects.
        is_active: whether anything is fetched with them.
        direct: the plan as options of the statement; None while its values wait, False where they always do.
    """

    __slots__ = ("_needed", "_nodes", "_observed", "_turns", "children", "direct", "is_active")

    def __init__(self, observed: int = OBSERVED) -> None:
        self.children: dict[RelationshipProperty[Any], Node] = {}
        self.is_active = False
        self.direct: Direct | Literal[False] | None = None
        self._nodes = 0
        self._observed = 0
        self._needed = observed
        self._turns = 0

    def observe(self) -> bool:
        """Count a fetch whose values will wait, and tell whether what was fetched before was read."""
        self._observed += 1
        if not self.direct and self._observed <= self._needed:
            return False
        is_read = all(node.is_read for path in self.active() if (node := self.node(path)) is not None)
        if not is_read:
            self.wait()
        return is_read

    def is_waiting_turn(self) -> bool:
        """Count an execution of a direct plan, and tell whether its values shall wait even so."""
        self._turns += 1
        return self._turns % WAITING_TURN == 0

    def wait(self) -> None:
        """Observe anew."""
        self.direct = None
        self._observed = 0

    def write(self) -> None:
        """Note that the session wrote before values were read: that takes more evidence from now on."""
        self._needed = min(self._needed * 2, max(self._needed, MAX_OBSERVED))
        self.wait()

    def node(self, path: Path) -> Node | None:
        """Return the node at the end of a path, made where it is not there; None for one too many."""
        children, node = self.children, None
        for relationship in path if len(path) <= MAX_DEPTH else ():
            node = children.get(relationship)
            if node is None:
                if self._nodes >= MAX_NODES:
                    return None
                self._nodes += 1
                node = children[relationship] = Node(relationship)
            children = node.children
        return node

    def settle(self) -> None:
        """Take note of changed nodes."""
        self.direct = None
        self.is_active = any(each.is_active for each in self.children.values())

    def active(self) -> Iterator[Path]:
        """Yield the paths that are fetched, each after the one it continues."""
        todo: list[tuple[Path, Node]] = [((each.relationship,), each) for each in self.children.values()]
        while todo:
            path, node = todo.pop(0)
            if node.is_active:
                yield path
                todo += (((*path, each.relationship), each) for each in node.children.values())


class Tally:
    """Lazy loads of one relationship along the objects of one execution.

    Attributes:
        reads: lazy loads.
        objects: objects that it could have been read of, of those cohorts that were counted.
        cohorts: the queries that brought those objects.
    """

    __slots__ = ("cohorts", "is_wanted", "is_worthy", "objects", "reads")

    MAX_COHORTS = 20
    """Cohorts counted; the others are taken to be like them."""

    def __init__(self) -> None:
        self.reads = 0
        self.objects = 0
        self.cohorts: set[int] = set()
        self.is_worthy = False
        self.is_wanted = False

    def teach(self, node: Node) -> bool:
        """Let a node learn from it, once in each execution; tell whether it did."""
        if self.reads * WORTH < self.objects:
            return False
        learned = not self.is_worthy
        self.is_worthy = node.is_worthy = True
        if self.reads > 1 and not self.is_wanted:
            self.is_wanted = learned = True
            node.want()
        return learned


class Plans:
    """All plans of one application, by place.

    Args:
        observed: fetches after which a plan whose values are read is served directly.

    Attributes:
        roots: the mappers that there were plans for.

    Example:
        >>> plans = Plans()
        >>> len(plans)
        0
    """

    def __init__(self, observed: int = OBSERVED) -> None:
        self._observed = observed
        self.roots: set[Mapper[Any]] = set()
        self._plans: OrderedDict[Place, Plan] = OrderedDict()

    def __len__(self) -> int:
        return len(self._plans)

    def get(self, place: Place) -> Plan | None:
        """Return the plan of a place that is to be fetched; None where nothing is."""
        plan = self._plans.get(place)
        if plan is None or not plan.is_active:
            return None
        self._plans.move_to_end(place)
        return plan

    def at(self, place: Place) -> Plan:
        """Return the plan of a place, made where it is not there."""
        plan = self._plans.get(place)
        if plan is None:
            plan = self._plans[place] = Plan(self._observed)
            self.roots.add(place.root)
            while len(self._plans) > MAX_PLANS:
                self._plans.popitem(last=False)
        return plan

    def active(self) -> list[tuple[Place, Plan]]:
        """Return the plans that are fetched, the latest used first."""
        items = tuple(self._plans.items())
        return list(islice((each for each in reversed(items) if each[1].is_active), MAX_PLANS))
