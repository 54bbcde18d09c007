"""What is read of what statements load, seen in a sample of the requests.

An eager load that nobody reads, and a wide column that nobody reads, are work for nothing; that they are not
read can be told only by watching reads. In a sampled request each statement for mapped objects is noted with
what it loads, and while the request runs the attributes of those classes are watched
(`upshift.sql.uses.watch`). When it is over, each line's table says for each of its loads in how many samples
it was made, and in how many it was read.

The table leans to the side of use, for a wrong finding costs more than a late one:

- A read of a relationship anywhere in the request counts for all statements of it that load it. - A sample
says nothing of a class none of whose other attributes was read: its objects may have been read in a way
  that is not seen, as `vars()` does.
- One use in any sample is enough, for good: what is read now and then never becomes a finding, and so cannot
  become an N+1 by its own cure, and a finding again by the cure of that.

Outside of sampled requests it costs a comparison for each statement.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal

from upshift.sql.uses.asked import eager_loads, whole_entities, wide_columns
from upshift.sql.uses.watch import Watch

if TYPE_CHECKING:
    from contextvars import ContextVar

    from sqlalchemy.orm import Mapper, MapperProperty

    from upshift.record import CallSite, Record, Statement

logger = logging.getLogger("upshift.sql")

MAX_LOADS = 4_096
"""Loads in the table; the one not seen for longest makes room."""

MAX_OPEN = 64
"""Sampled requests that are watched at the same time."""

MAX_MEASURED = 50
"""Objects of a request whose wide columns are measured."""

MAX_ROUTES = 5
"""Routes remembered of one load."""

_TICKS = 1e10
"""Of the clock in a second, finer than its noise."""

_SHARES = 1e7

Kind = Literal["option", "mapping", "column"]


@dataclass(slots=True)
class Use:
    """What one line loads, and whether it is read.

    Attributes:
        site: the line that executes the statement.
        root: the class that the statement is for.
        attribute: what it loads: `Order.items`.
        kind: by an `option` of the statement, by the `mapping`, or as a wide `column` of it.
        samples: sampled requests in which it was loaded.
        used: of those, in how many it was read.
        objects: objects that the statement brought in those.
        width: the average bytes of a column, as far as it was measured; 0 otherwise.
        routes: some of the routes.
    """

    site: CallSite
    root: str
    attribute: str
    kind: Kind
    samples: int = 0
    used: int = 0
    objects: int = 0
    width: float = 0.0
    routes: set[str] = field(default_factory=set)


class _Sample:
    """One request that is watched."""

    def __init__(self) -> None:
        self.loads: dict[tuple[MapperProperty[Any], Kind], list[tuple[Statement, Mapper[Any]]]] = {}
        self.read: set[MapperProperty[Any]] = set()
        self.watches: dict[MapperProperty[Any], Watch] = {}
        self.measured: dict[MapperProperty[Any], list[int]] = {}
        self.measured_objects: set[int] = set()


class AttributeUses:
    """Samples requests, and keeps the table of what is read.

    Args:
        current: where the record of the running request is found.
        rate: the share of requests that are sampled, from 0 to 1.

    Attributes:
        faults: statements and requests that could not be sampled because of a fault in Upshift.
    """

    def __init__(self, current: ContextVar[Record | None], rate: float) -> None:
        self._current = current
        self._threshold = rate * _SHARES
        self._open: dict[Record, _Sample] = {}
        self._uses: OrderedDict[tuple[CallSite, str, Kind], Use] = OrderedDict()
        self._lock = Lock()
        self.faults = 0

    def note(self, record: Record, context: Any, statement: Statement) -> None:  # noqa: ANN401 - SQLAlchemy's
        """Note what a statement of a sampled request loads; of others, nothing."""
        # The clock at a request's start is as random as any number, and there already.
        if record.started * _TICKS % _SHARES >= self._threshold or statement.site is None:
            return
        try:
            self._note(record, context.invoked_statement, statement)
        except Exception as error:  # noqa: BLE001 - logged and counted
            self._count(error)

    def fold(self, record: Record) -> None:
        """Take what a closed request taught into the table, and stop watching for it."""
        sample = self._open.pop(record, None)
        if sample is None:
            return
        try:
            with self._lock:
                for watch in sample.watches.values():
                    watch.stop()
            self._fold(record, sample)
        except Exception as error:  # noqa: BLE001 - logged and counted
            self._count(error)

    def rows(self) -> tuple[Use, ...]:
        """Return the table."""
        return tuple(self._uses.values())

    def close(self) -> None:
        """Stop watching. Calling it twice does nothing more."""
        self._threshold = 0.0
        for record in tuple(self._open):
            self.fold(record)

    def _note(self, record: Record, invoked: Any, statement: Statement) -> None:  # noqa: ANN401 - likewise
        if statement.is_eager or statement.lazy_load is not None or not hasattr(invoked, "_raw_columns"):
            return  # loads that others caused, and what is no SELECT
        sample = self._open.get(record)
        if sample is None:
            if len(self._open) >= MAX_OPEN or record.is_closed:
                return
            sample = self._open[record] = _Sample()
        entities = whole_entities(invoked)
        if not entities:
            return
        loads: list[tuple[MapperProperty[Any], Kind]] = [
            (each.relationship, "option" if each.is_option else "mapping") for each in eager_loads(invoked)
        ]
        loads += ((each, "column") for each in wide_columns(invoked))
        for prop, kind in loads:
            sample.loads.setdefault((prop, kind), []).append((statement, entities[0]))
            with self._lock:
                for other in prop.parent.attrs:
                    if other not in sample.watches and len(sample.watches) < MAX_LOADS:
                        sample.watches[other] = Watch(other, self._tell)

    def _tell(self, prop: MapperProperty[Any], instance: Any) -> None:  # noqa: ANN401 - a mapped object
        record = self._current.get()
        sample = self._open.get(record) if record is not None else None
        if sample is None:
            return
        sample.read.add(prop)
        if len(sample.measured_objects) < MAX_MEASURED and id(instance) not in sample.measured_objects:
            sample.measured_objects.add(id(instance))
            loaded = vars(instance)
            for (each, kind), _ in tuple(sample.loads.items()):
                if kind == "column" and each.key in loaded and isinstance(instance, each.parent.class_):
                    sample.measured.setdefault(each, []).append(_size(loaded[each.key]))

    def _fold(self, record: Record, sample: _Sample) -> None:
        for (prop, kind), statements in sample.loads.items():
            is_read = prop in sample.read
            # Of a class that nothing was read of nobody knows how its objects were read.
            if not is_read and not any(each.parent is prop.parent for each in sample.read):
                continue
            by_site = {statement.site: (statement, root) for statement, root in statements if statement.rows}
            for site, (statement, root) in by_site.items():
                if site is not None:
                    use = self._use(site, root, prop, kind)
                    use.samples += 1
                    use.used += is_read
                    use.objects += statement.rows or 0
                    if sizes := sample.measured.get(prop):
                        use.width += (sum(sizes) / len(sizes) - use.width) / use.samples
                    if len(use.routes) < MAX_ROUTES:
                        use.routes.add(record.operation)

    def _use(self, site: CallSite, root: Mapper[Any], prop: MapperProperty[Any], kind: Kind) -> Use:
        attribute = f"{prop.parent.class_.__name__}.{prop.key}"
        key = (site, attribute, kind)
        use = self._uses.get(key)
        if use is None:
            use = self._uses[key] = Use(site, root.class_.__name__, attribute, kind)
            while len(self._uses) > MAX_LOADS:
                self._uses.popitem(last=False)
        self._uses.move_to_end(key)
        return use

    def _count(self, fault: Exception) -> None:
        self.faults += 1
        if self.faults == 1:
            logger.error("upshift could not see what is read of a statement's objects", exc_info=fault)


def _size(value: object) -> int:
    if isinstance(value, str | bytes):
        return len(value)
    with suppress(Exception):
        return 0 if value is None else len(str(value))
    return 0
