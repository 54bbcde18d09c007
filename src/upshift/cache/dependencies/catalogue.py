"""Reads in PostgreSQL's catalogue how relations hang together.

It is read on a connection on which a transaction is about to begin: before the first, a minute after it was
read, when something that hooked statements have made or altered is committed, and when a statement names what
it did not have. What others alter meanwhile, by way of no hooked engine, is so seen within a minute; what
they add, by whoever names it first. A connection on which a transaction is open already is left alone, as
reading would end it, and so are those of drivers that do not tell (psycopg, psycopg2 and asyncpg do).
"""

from __future__ import annotations

import logging
from time import monotonic
from typing import TYPE_CHECKING, Any

from upshift.cache.dependencies.names import bare_name
from upshift.cache.dependencies.relations import Told

if TYPE_CHECKING:
    from collections.abc import Iterable

    Row = tuple[str, str, str]
    """What is told, of which relation, and which other."""

logger = logging.getLogger("upshift.cache")

SECONDS = 60.0
"""How long what was read is taken for what is there."""

RETRY_SECONDS = 5.0
"""How long it is not read again after that has begun, or failed."""

_OURS = "NOT IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)"
_RELATIONS = "IN ('r', 'p', 'v', 'm', 'f')"

# What a materialized view reads is in it when it is refreshed, which is a write to it.
_QUERY = f"""
SELECT 'name', relname::text, '' FROM pg_catalog.pg_class
WHERE relkind {_RELATIONS} AND relnamespace {_OURS}
UNION ALL
SELECT 'above', child.relname::text, parent.relname::text
FROM pg_catalog.pg_inherits
JOIN pg_catalog.pg_class AS child ON child.oid = inhrelid
JOIN pg_catalog.pg_class AS parent ON parent.oid = inhparent
WHERE child.relkind {_RELATIONS}
UNION ALL
SELECT DISTINCT 'behind', view.relname::text, other.relname::text
FROM pg_catalog.pg_rewrite AS rule
JOIN pg_catalog.pg_class AS view ON view.oid = rule.ev_class
JOIN pg_catalog.pg_depend AS needs
    ON needs.classid = 'pg_catalog.pg_rewrite'::regclass AND needs.objid = rule.oid
    AND needs.refclassid = 'pg_catalog.pg_class'::regclass
JOIN pg_catalog.pg_class AS other ON other.oid = needs.refobjid
WHERE view.relkind <> 'm' AND view.relnamespace {_OURS}
    AND other.relkind {_RELATIONS} AND other.oid <> view.oid
"""  # noqa: S608 - constants


class Catalogue:
    """The catalogue of the database that an engine leads to.

    Attributes:
        told: what it told when it was last read; None before that.
        strange: names that statements had and it did not, then.
        is_expired: whether it is known to have changed.
        is_late: whether statements were sent before it was read.
    """

    def __init__(self) -> None:
        self.told: Told | None = None
        self.strange: set[str] = set()
        self.is_expired = False
        self.is_late = False
        self._due = 0.0
        self._latest: tuple[list[Row], Told] | None = None
        self._has_failed = False

    @property
    def is_due(self) -> bool:
        """Whether it is to be read."""
        return self.is_expired or monotonic() >= self._due

    def read(self, connection: Any) -> Told | None:
        """Read it, on a connection that nobody else uses; None where that cannot be.

        Until it has been read once, all who come here read it. Then one does, and the others go on with what
        is known.
        """
        if not _is_idle(connection):
            return None
        self.is_expired = False
        if self.told is not None:
            self.put_off(RETRY_SECONDS)
        try:
            rows = _rows(connection)
        except Exception:
            self.put_off(RETRY_SECONDS)
            if not self._has_failed:
                self._has_failed = True
                logger.warning("what views and partitions depend on cannot be read", exc_info=True)
            return None
        self.put_off(SECONDS)
        if self._latest is None or self._latest[0] != rows:
            self._latest = rows, told_of(rows)
        return self._latest[1]

    def put_off(self, seconds: float) -> None:
        """Have it read in so many seconds."""
        self._due = monotonic() + seconds


def told_of(rows: Iterable[Row]) -> Told:
    """Return what the rows of the catalogue tell.

    Example:
        >>> told_of([("name", "orders", ""), ("above", "Orders_2026", "orders")]).above
        {'orders_2026': frozenset({'orders'})}
    """
    links: dict[str, dict[str, frozenset[str]]] = {"name": {}, "above": {}, "behind": {}}
    for kind, name, other in rows:
        of_kind, bare = links[kind], bare_name(name)
        of_kind[bare] = of_kind.get(bare, frozenset()) | {bare_name(other)}
    return Told(frozenset(links["name"]), links["behind"], links["above"])


def _rows(connection: Any) -> list[Row]:
    try:
        cursor = connection.cursor()
        try:
            cursor.execute(_QUERY)
            return [(kind, name, other) for kind, name, other in cursor.fetchall()]
        finally:
            cursor.close()
    finally:
        connection.rollback()


def _is_idle(connection: Any) -> bool:
    """Whether a connection is known to have no transaction."""
    driver = getattr(connection, "driver_connection", None)
    status = getattr(getattr(driver, "info", None), "transaction_status", None)
    if status is not None:
        return bool(status == 0)  # IDLE of libpq
    is_in_transaction = getattr(driver, "is_in_transaction", None)
    return is_in_transaction is not None and not is_in_transaction()
