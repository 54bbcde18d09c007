"""Which query to give which option, so that it loads eagerly what was loaded lazily.

A lazy load knows how the object was loaded whose relationship was read: all the way from the query where that
had loader options, else only from the lazy load before. So the way back leads through the lazy loads of the
whole request.

The query itself is found by its text, among the statements sent before: it is the last one that selects the
key of the class that the way begins with. A `session.get` is told from a `select`, as it takes its options
otherwise.
"""

from __future__ import annotations

import linecache
import re
from collections import defaultdict
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy.orm import Mapper, RelationshipProperty
    from sqlalchemy.orm.util import AliasedInsp

    from upshift.record import CallSite, Record, Statement

    Entity = Mapper[Any] | AliasedInsp[Any]

MAX_HOPS = 20
"""Lazy loads that are followed back; a longer way is told from its middle on."""

Path = tuple[Any, ...]
"""A loader path as SQLAlchemy has it: entity, relationship, entity, …, relationship."""

_SHORTEST = 2  # an entity and its relationship: the object came from the query itself
_NAMED_PARAMETER = re.compile(r"%\(\w+\)s|(?<!:):\w+")
_KEY_IS_GIVEN = re.compile(r"\S+ = (\?|%s|\$\d+)(::[\w ]+)?\s*")
_GET_CALL = re.compile(r"\.get(_one)?\(\s*([\w.]+\s*,|$)")


class EagerLoad(NamedTuple):
    """What to write at a query.

    Attributes:
        root: the class that the query is for.
        options: the loader options that it lacks.
        is_get: whether the query is a `session.get`.
        site: the line that sends it; None where it was not found.
    """

    root: str
    options: str
    is_get: bool = False
    site: CallSite | None = None

    @property
    def code(self) -> str:
        """The query with its options, as a line of Python.

        Example:
            >>> EagerLoad("Order", "selectinload(Order.items)").code
            'select(Order).options(selectinload(Order.items))'
            >>> EagerLoad("Order", "selectinload(Order.items)", is_get=True).code
            'session.get(Order, …, options=[selectinload(Order.items)])'
        """
        if self.is_get:
            return f"session.get({self.root}, …, options=[{self.options}])"
        return f"select({self.root}).options({self.options})"


class LoadPaths:
    """How the objects of one request were loaded.

    Args:
        record: the request.
    """

    def __init__(self, record: Record) -> None:
        self._statements = record.statements
        self._of: dict[Any, dict[Path, None]] = defaultdict(dict)
        for statement in record.statements:
            if statement.lazy_load is not None and statement.lazy_load.path:
                path = statement.lazy_load.path
                self._of[path[-1]][path] = None

    def eager_loads(self, statements: Iterable[Statement]) -> tuple[EagerLoad, ...]:
        """Return what would load eagerly what these statements loaded lazily."""
        firsts: dict[Path, Statement] = {}
        for statement in statements:
            if statement.lazy_load is not None and len(statement.lazy_load.path) >= _SHORTEST:
                firsts.setdefault(statement.lazy_load.path, statement)
        return tuple(dict.fromkeys(self._eager_load(path, first) for path, first in firsts.items()))

    def _eager_load(self, path: Path, first: Statement) -> EagerLoad:
        path = self._from_the_query(path)
        query = self._query(path[0], first)
        return EagerLoad(
            root=_name(path[0]),
            options=self._options(path),
            is_get=query is not None and _is_get(query, path[0]),
            site=query.site if query is not None else None,
        )

    def _from_the_query(self, path: Path) -> Path:
        """Return the path with what lies before it, as far as lazy loads of this request tell."""
        followed = set()
        for _ in range(MAX_HOPS):
            hop = path[1]
            before = [each for each in self._of[hop] if len(each) >= _SHORTEST and hop not in each[1:-1:2]]
            if hop in followed or not before or min(map(len, before)) == _SHORTEST:
                break
            followed.add(hop)
            path = (*min(before, key=len), *path[2:])
        return path

    def _query(self, entity: Entity, first: Statement) -> Statement | None:
        key: Any = entity.mapper.primary_key[0]
        selected = re.compile(rf"\b{re.escape(key.table.name)}(_\d+)?[\"`]?\.[\"`]?{re.escape(key.name)}\b")
        for statement in reversed(self._statements[: self._statements.index(first)]):
            is_own = statement.lazy_load is None and not statement.is_eager and statement.site is not None
            if is_own and selected.search(re.split(r"\sFROM\s", statement.sql, maxsplit=1)[0]):
                return statement
        return None

    def _options(self, path: Path) -> str:
        hops = list(zip(path[::2], path[1::2], strict=True))
        options = []
        for number, (_, relationship) in enumerate(hops):
            following = hops[number + 1] if number + 1 < len(hops) else None
            if following is not None and following[1] is relationship:
                continue  # its recursion loads all of them
            owner = path[0] if not number and path[0].is_aliased_class else relationship.parent
            attribute = f"{_name(owner)}.{relationship.key}"
            if following is not None and _is_of_subclass(*following):
                attribute += f".of_type({_name(following[1].parent)})"
            if self._is_recursive(relationship):
                attribute += ", recursion_depth=-1"
            # What was not loaded lazily is loaded eagerly already, in whatever way; that must stay.
            load = "selectinload" if self._of[relationship] else "defaultload"
            options.append(f"{load}({attribute})")
        chain = ".".join(options)
        if _is_of_subclass(*hops[0]):
            # Else the option is taken, and does nothing: the query knows no columns of the subclass.
            chain = f"selectin_polymorphic({_name(path[0])}, [{_name(hops[0][1].parent)}]), {chain}"
        return chain

    def _is_recursive(self, relationship: RelationshipProperty[Any]) -> bool:
        return any(relationship in path[1:-1:2] for path in self._of[relationship])


def _name(entity: Entity) -> str:
    name: str = entity.mapper.class_.__name__
    return f"aliased({name})" if entity.is_aliased_class else name


def _is_of_subclass(entity: Entity, relationship: RelationshipProperty[Any]) -> bool:
    return not issubclass(entity.mapper.class_, relationship.parent.class_)


def _is_get(query: Statement, entity: Entity) -> bool:
    """Tell whether a query is a `session.get`: by its parameter's name, else by the line that sent it."""
    condition = query.sql.rpartition("WHERE ")[2]
    named = _NAMED_PARAMETER.findall(condition)
    if named:
        return any("pk_1" in name for name in named)
    keys = condition.split(" AND ")
    if len(keys) != len(entity.mapper.primary_key) or not all(map(_KEY_IS_GIVEN.fullmatch, keys)):
        return False
    site = query.site
    return site is not None and bool(_GET_CALL.search(linecache.getline(site.file, site.line).rstrip()))
