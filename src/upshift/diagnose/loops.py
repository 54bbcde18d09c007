"""What to say of a SELECT that one line sends again and again: what it is, and what to write instead."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from upshift.record import ObjectLoad

_EQUALITY = re.compile(
    r"\bWHERE\b.*?([A-Za-z_]\w*)[\"`\]]?\s*=\s*(?:\?|%|\$\d|:\w)", re.IGNORECASE | re.DOTALL
)
_COLUMN = re.compile(r"\bSELECT\s+(?:[\"`\w]+\.)*[\"`]?(\w+)", re.IGNORECASE)


class Loop(NamedTuple):
    """What is told of it.

    Attributes:
        what: what was repeated; how often is told after it.
        fix: what to write, the best first.
    """

    what: str
    fix: tuple[str, ...]


def loop_of(sql: str, load: ObjectLoad | None) -> Loop:
    """Tell what a repeated SELECT is, by who sent it and by its text.

    Example:
        >>> loop_of("SELECT a.id FROM a WHERE a.email = ?", None).fix
        ('load the rows with one statement before the loop: select(…).where(Model.email.in_(values))',)
    """
    if load is None:
        found = _EQUALITY.search(sql)
        column, values = (found[1], "values") if found else ("id", "ids")
        fix = "load the rows with one statement before the loop: select(…).where(Model."
        return Loop("the same SELECT", (f"{fix}{column}.in_({values}))",))
    model = load.model
    match load.reason:
        case "get":
            return Loop(
                f"session.get({model}, …)",
                (
                    f"before the loop: upshift.sql.get_many(session, {model}, keys)",
                    f"or session.scalars(select({model}).where({model}.id.in_(keys)))",
                ),
            )
        case "refresh":
            return Loop(
                f"session.refresh of one {model} each",
                (
                    f"together: select({model}).where(…).execution_options(populate_existing=True)",
                    "or none, where nothing but this session has changed the rows",
                ),
            )
        case _:
            found = _COLUMN.search(sql)
            column = found[1] if found else "column"
            return Loop(
                f"{model}.{column} loaded for one object each",
                (
                    f"where the objects are loaded: select({model}).options(undefer({model}.{column}))",
                    f"or, if the database sets it: {model}.__mapper_args__ = {{'eager_defaults': True}}",
                ),
            )
