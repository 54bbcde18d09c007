"""How relations hang together: what views read, and what is a partition or a child of what.

The catalogue of a database tells, and who makes the cache (`views=`). By that a statement does more than it
says:

    ==============  ==================================  ====================================================
    that names      depends also on                     and, where it writes, changes also
    ==============  ==================================  ====================================================
    a view          table:t of each t that it reads     table:t, rows:t
    a child c       below:p of each p above c           table:p, rows:p
    a parent p                                          below:p
    ==============  ==================================  ====================================================

A partition is a child of its table, and of what that is a partition of. Who reads a parent depends on one
tag, however many children it has: whoever writes to one of them tells it. Who reads a child is told of writes
by way of a parent, which may move rows from one to another, and not of those to its siblings. A write that
goes on to other tables is taken for one to any rows, and for one that foreign keys take further.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from upshift.cache.dependencies.names import below_tag, rows_tag, table_names, table_tag

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from upshift.cache.dependencies.effects import Effect
    from upshift.cache.dependencies.schema import Schema

    Links = Mapping[str, frozenset[str]]
    """For the bare names of some relations, those of others."""


class Told(NamedTuple):
    """What the catalogue of a database tells.

    Attributes:
        names: of all of its relations.
        behind: for each view, what it reads; for a table with rules, what these name.
        above: for each child, its parents.
    """

    names: frozenset[str]
    behind: Links
    above: Links

    def has_more_of(self, names: frozenset[str], other: Told) -> bool:
        """Whether it tells of one of these relations what another does not."""
        return any(
            name in names and not others <= known.get(name, frozenset())
            for told, known in ((self.behind, other.behind), (self.above, other.above))
            for name, others in told.items()
        )


class Relations:
    """What is known of how relations hang together. It does not change.

    Args:
        views: for the name of each view or function, the tables that it reads.
        told: what catalogues tell.

    Example:
        >>> from upshift.cache.dependencies.effects import effect_of
        >>> from upshift.cache.dependencies.schema import Schema
        >>> orders = Told(frozenset(), {}, {"orders_2026": frozenset({"orders"})})
        >>> reads, writes = effect_of(["orders_2026"]), effect_of([], written=["orders_2026"])
        >>> sorted(Relations({}, [orders]).extended(reads, Schema()).tables.read)
        ['below:orders', 'table:orders_2026']
        >>> sorted(Relations({}, [orders]).extended(writes, Schema()).tables.written)
        ['rows:orders', 'rows:orders_2026', 'table:orders', 'table:orders_2026']
    """

    def __init__(self, views: Links, told: Iterable[Told] = ()) -> None:
        told = tuple(told)
        self._behind = _unfolded([views, *(each.behind for each in told)])
        self._above = _unfolded([each.above for each in told])
        self._parents = frozenset[str]().union(*self._above.values())

    def extended(self, effect: Effect, schema: Schema) -> Effect:
        """Return an effect with what it has by way of other relations."""
        if not self._behind and not self._above:
            return effect
        named = names_read(effect)
        behind = _of(self._behind, named)
        above = _of(self._above, named | behind)
        tables = effect.tables
        read = tables.read.union(map(table_tag, behind), map(below_tag, above))
        written = tables.written | self._written(table_names(tables.written), schema)
        return effect._replace(tables=tables._replace(read=read, written=written))

    def _written(self, named: frozenset[str], schema: Schema) -> frozenset[str]:
        behind = _of(self._behind, named)
        further = behind | _of(self._above, named | behind)
        along = frozenset(child for each in further for child in schema.with_changed(each))
        further |= along | _of(self._above, along)
        below = self._parents & (named | behind | along)
        return frozenset({*map(table_tag, further), *map(rows_tag, further), *map(below_tag, below)})


def names_read(effect: Effect) -> frozenset[str]:
    """Return the names of the tables that a statement reads."""
    return table_names(effect.tables.read).union(each.table for each in effect.reads)


def _of(links: Links, names: Iterable[str]) -> frozenset[str]:
    return frozenset[str]().union(*(links.get(name, ()) for name in names))


def _unfolded(several: Iterable[Links]) -> dict[str, frozenset[str]]:
    """Return for each name what it is linked to, by way of others as well."""
    links: dict[str, frozenset[str]] = {}
    for each in several:
        for name, others in each.items():
            links[name] = links.get(name, frozenset()) | others
    found: dict[str, frozenset[str]] = {}
    for name in links:
        seen, waiting = set[str](), [name]
        while waiting:
            new = links.get(waiting.pop(), frozenset()) - seen
            seen |= new
            waiting += new
        found[name] = frozenset(seen)
    return found
