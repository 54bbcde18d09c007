"""Whether a statement only reads: what may be sent to a replica.

The answer is yes only where it is proved. A function is proved to read by PostgreSQL itself: one that is
declared STABLE or IMMUTABLE cannot write (`pg_proc.provolatile`), so the names come from the database, and
with them those of functions of the application's own. What a proof would need a database for at each
statement is taken on trust: that a view, an operator or a type's `column_expression` does not call a
function that writes. A standby refuses that (SQLSTATE 25006), and the statement is then run on the primary.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from sqlalchemy.orm import FromStatement
from sqlalchemy.sql import visitors
from sqlalchemy.sql.ddl import ExecutableDDLElement
from sqlalchemy.sql.dml import UpdateBase
from sqlalchemy.sql.elements import ColumnClause, OperatorExpression, TextClause
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.sql.operators import custom_op
from sqlalchemy.sql.selectable import CTE, SelectBase

from upshift.sql.replicas.plain_text import SYNTAX, reads_only

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy.sql import ClauseElement

MAX_VERDICTS = 2_000
"""Statements whose verdict is remembered."""

VOLATILE_BUT_READING = frozenset(
    {
        "clock_timestamp",
        "gen_random_uuid",
        "pg_is_in_recovery",
        "pg_sleep",
        "random",
        "random_normal",
        "timeofday",
        "uuidv4",
        "uuidv7",
    }
)
STABLE_BUT_WRITING = frozenset({"txid_current", "pg_current_xact_id"})
"""They take a transaction id, which a standby has none of."""

_Kind = Literal["plain", "looked at", "refused"]
_ROOTS = (SelectBase, TextClause, FromStatement, FunctionElement)
_LOOKED_AT = (TextClause, FunctionElement, ColumnClause, OperatorExpression, SelectBase, CTE)
_EXTRAS = ("_prefixes", "_suffixes", "_hints", "_statement_hints")
"""Texts that an application puts into a query, and that its elements do not tell of."""


class Reading:
    """Tells reading statements from others, and remembers by SQLAlchemy's cache key.

    Example:
        >>> from sqlalchemy import func, select, text
        >>> reading = Reading()
        >>> reading.learn({"count"})
        >>> reading.is_read(select(func.count())), reading.is_read(select(func.nextval("item_id")))
        (True, False)
        >>> reading.is_read(text("SELECT count(*) FROM item FOR UPDATE"))
        False
    """

    def __init__(self) -> None:
        self._functions: frozenset[str] = VOLATILE_BUT_READING | SYNTAX
        self._kinds: dict[type, _Kind] = {}
        self._verdicts: dict[tuple[object, ...], bool] = {}

    def learn(self, functions: Iterable[str]) -> None:
        """Take the names of the functions that are known to read, in the place of those known so far."""
        learned = (VOLATILE_BUT_READING | SYNTAX | {name.lower() for name in functions}) - STABLE_BUT_WRITING
        if learned != self._functions:
            self._functions = learned
            self._verdicts.clear()

    def is_read(self, statement: ClauseElement) -> bool:
        """Tell whether the statement is proved to read only, and takes no lock."""
        # SQLAlchemy needs the key as well, and keeps it with the statement.
        cache_key = statement._generate_cache_key()
        if cache_key is None:
            return self._judge(statement)
        verdict = self._verdicts.get(cache_key.key)
        if verdict is None:
            verdict = self._judge(statement)
            if len(self._verdicts) >= MAX_VERDICTS:
                self._verdicts.clear()
            self._verdicts[cache_key.key] = verdict
        return verdict

    def _judge(self, statement: ClauseElement) -> bool:
        if not isinstance(statement, _ROOTS):
            return False
        if isinstance(statement, TextClause):
            return reads_only(statement.text, self._functions)
        is_text_whole = isinstance(statement, FromStatement) or statement.__visit_name__ == "textual_select"
        return all(
            self._is_harmless(element, is_text_whole=is_text_whole) for element in visitors.iterate(statement)
        )

    def _is_harmless(self, element: object, *, is_text_whole: bool) -> bool:
        kind = self._kinds.get(type(element))
        if kind is None:
            kind = self._kinds[type(element)] = _kind_of(type(element))
        if kind != "looked at":
            return kind == "plain"
        if isinstance(element, FunctionElement):
            return str(getattr(element, "name", "")).lower() in self._functions
        if isinstance(element, OperatorExpression):
            operators = (getattr(element, name, None) for name in ("operator", "modifier"))
            return all(map(_is_known_operator, operators))
        if isinstance(element, SelectBase | CTE):
            is_locking = getattr(element, "_for_update_arg", None) is not None
            return not is_locking and not any(getattr(element, name, ()) for name in _EXTRAS)
        return self._is_reading_text(element, is_whole=is_text_whole)

    def _is_reading_text(self, element: object, *, is_whole: bool) -> bool:
        if isinstance(element, TextClause):
            return reads_only(element.text, self._functions, is_fragment=not is_whole)
        assert isinstance(element, ColumnClause)
        return not element.is_literal or reads_only(element.name, self._functions, is_fragment=True)


def _kind_of(element: type) -> _Kind:
    # With `@compiles` the application renders an element itself: whatever that may be.
    if issubclass(element, UpdateBase | ExecutableDDLElement) or hasattr(element, "_compiler_dispatcher"):
        return "refused"
    return "looked at" if issubclass(element, _LOOKED_AT) else "plain"


def _is_known_operator(operator: object) -> bool:
    return not isinstance(operator, custom_op) or not any(map(str.isalpha, operator.opstring))
