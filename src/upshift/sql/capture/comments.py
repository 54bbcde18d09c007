"""Comments that tell the database whose statement it is, by the sqlcommenter specification.

A database's own log, its list of running statements and its statistics then name the request:

    SELECT id FROM item /*request_id='9f2c…',route='%2Fitems%2F%7Bid%7D',traceparent='00-…-…-01'*/

The comment is added where a statement goes to the driver, after SQLAlchemy has compiled and cached it.
Values are URL-encoded, so a hostile one has no `*`, `/` or quote left with which to end the comment.

A driver that prepares each new text at the server, as asyncpg does, would have to do so for each request; its
statements name the route only.

Source: https://google.github.io/sqlcommenter/spec/.
"""

from __future__ import annotations

import logging
from operator import attrgetter
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.engine import Dialect

    from upshift.record import Record

logger = logging.getLogger("upshift.sql")

MAX_VALUE = 500
"""Characters of a value before it is encoded; what is longer is cut."""

MAX_ROUTES = 1_000
"""Routes whose encoded form is remembered."""

_PREPARING = frozenset({"asyncpg"})
_PERCENT_IS_SPECIAL = frozenset({"format", "pyformat"})


class Comments:
    """Makes the comments of statements.

    Args:
        route_of: tells the route of a request that is still open; None where it is not known (yet).
        is_sampled: tells whether a request is traced, as far as is known; its caller's word where not given.

    Attributes:
        faults: statements sent without a comment because of an error.

    Example:
        >>> from sqlalchemy import create_engine
        >>> from upshift.record import Record
        >>> record = Record("GET", "/items/7", 0.0)
        >>> record.request_id = "a/b"
        >>> comment = Comments(lambda record: "/items/{id}").of(create_engine("sqlite://").dialect)
        >>> comment("SELECT 1", record)
        "SELECT 1 /*request_id='a%2Fb',route='%2Fitems%2F%7Bid%7D'*/"
    """

    def __init__(
        self,
        route_of: Callable[[Record], str | None],
        is_sampled: Callable[[Record], bool | None] = attrgetter("is_sampled"),
    ) -> None:
        self.faults = 0
        self._is_sampled = is_sampled
        self._route_of = route_of
        self._routes: dict[str, str] = {}

    def of(self, dialect: Dialect, *, parameters: bool = True) -> Callable[[str, Record], str]:
        """Return what adds the comment to a statement for one dialect.

        Args:
            dialect: the dialect that will send it.
            parameters: whether the driver is given parameters; then some take a `%` for a placeholder.

        A statement that already has a comment, or something that looks like one, is returned as it is: the
        specification asks for that, and after `--` another comment would be part of it.
        """
        doubles = parameters and dialect.paramstyle in _PERCENT_IS_SPECIAL
        route_only = dialect.driver in _PREPARING

        def comment(sql: str, record: Record) -> str:
            try:
                if "/*" in sql or "--" in sql:
                    return sql
                text = self._text(record, route_only=route_only)
            except Exception:
                self.faults += 1
                if self.faults == 1:
                    logger.exception("upshift could not comment a statement; statements go on without it")
                return sql
            if not text:
                return sql
            return f"{sql} /*{text.replace('%', '%%') if doubles else text}*/"

        return comment

    def _text(self, record: Record, *, route_only: bool) -> str:
        pairs = []  # in the order of their keys, as the specification asks
        if record.request_id and not route_only:
            pairs.append(f"request_id='{_encoded(record.request_id)}'")
        if route := self._route_of(record):
            pairs.append(f"route='{self._encoded_route(route)}'")
        if record.trace_id and not route_only:
            flags = "01" if self._is_sampled(record) else "00"
            pairs.append(f"traceparent='00-{_encoded(record.trace_id)}-{_encoded(record.span_id)}-{flags}'")
        return ",".join(pairs)

    def _encoded_route(self, route: str) -> str:
        known = self._routes.get(route)
        if known is None:
            known = _encoded(route)
            if len(self._routes) < MAX_ROUTES:
                self._routes[route] = known
        return known


def _encoded(value: str) -> str:
    return quote(value[:MAX_VALUE], safe="", errors="replace")
