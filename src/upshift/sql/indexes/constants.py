"""Parameters that never change: the application's constants, which SQLAlchemy sends as parameters too."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from upshift.sql.indexes.access import Constant
    from upshift.sql.indexes.workload import Work

SEEN_OFTEN = 2
"""Calls after which what was always the same is taken for a constant; what was sent once may be anything."""

_BOUND = re.compile(r"%\((?P<name>[^()%]*)\)s|%%|(?P<position>%s)")


def constants_of(work: Work, paramstyle: str) -> dict[str, Constant]:
    """The values that were the same in every call, by the names (`p1`) that `read_statement` gives them.

    Args:
        work: a statement captured on PostgreSQL; its samples are all the different ones that were seen, or as
            many of them as are kept.
        paramstyle: of the dialect it was captured on.

    Example:
        >>> from upshift.sql.indexes.workload import Work
        >>> sql = "SELECT * FROM job WHERE state = %(state)s AND owner = %(owner)s"
        >>> samples = ({"state": "new", "owner": 1}, {"state": "new", "owner": 2})
        >>> constants_of(Work(sql, samples, calls=9), "pyformat")
        {'p1': 'new'}
    """
    if work.calls < SEEN_OFTEN or not work.samples:
        return {}
    sets = [_by_number(work.sql, each, paramstyle) for each in work.samples]
    first = sets[0]
    return {
        name: value
        for name, value in first.items()
        if isinstance(value, str | int) and all(other.get(name) == value for other in sets)
    }


def _by_number(sql: str, parameters: Any, paramstyle: str) -> dict[str, Any]:  # noqa: ANN401 - a driver's own
    """The values by the number that `upshift.sql.placeholders.number` gives to their placeholders."""
    if paramstyle not in {"pyformat", "format"}:
        values = parameters if isinstance(parameters, Sequence) else ()
        return {f"p{position}": value for position, value in enumerate(values, 1)}
    found: dict[str, Any] = {}
    names: dict[str, int] = {}
    for match in _BOUND.finditer(sql):
        if match["name"] is not None and isinstance(parameters, Mapping):
            position = names.setdefault(match["name"], len(names) + 1)
            found[f"p{position}"] = parameters.get(match["name"])
        elif match["position"] and isinstance(parameters, Sequence) and len(found) < len(parameters):
            found[f"p{len(found) + 1}"] = parameters[len(found)]
    return found
