"""A captured statement in the forms EXPLAIN takes it: with its sample parameters, and without any.

Drivers write placeholders in their own style (PEP 249 `paramstyle`; asyncpg's is SQLAlchemy's
"numeric_dollar"). PostgreSQL itself knows `$1`, `$2`, …, which is what `EXPLAIN (GENERIC_PLAN)` wants.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Parameters = Mapping[str, Any] | Sequence[Any] | None

_PYFORMAT = re.compile(r"%(?:(?P<percent>%)|\((?P<name>[^()%]*)\)s|(?P<position>s))")

# String literals and quoted identifiers are consumed whole, so that a dollar sign in them stays; one that
# never ends runs to the end of the text, which keeps the time linear.
_DOLLAR = re.compile(r"""'(?:[^']|'')*+(?:'|\Z)|"(?:[^"]|"")*+(?:"|\Z)|\$(?P<number>\d+)|%""")


@dataclass(frozen=True, slots=True)
class Sample:
    """One captured statement.

    Attributes:
        sql: the text as it was sent to the driver.
        parameters: one set of parameters as it was sent with it; None where none was kept.
    """

    sql: str
    parameters: Parameters = None


@dataclass(frozen=True, slots=True)
class Numbered:
    """A statement as PostgreSQL itself writes it, and how to send it with values through psycopg.

    Attributes:
        sql: the text with `$1`, `$2`, … for its placeholders.
        bound_sql: the text in paramstyle "pyformat".
        values: the parameters of `bound_sql`; None where there are none to send.
        has_placeholders: whether the statement has any.
    """

    sql: str
    bound_sql: str
    values: Parameters
    has_placeholders: bool


def number(sample: Sample, paramstyle: str) -> Numbered:
    """Number the placeholders of a statement captured on PostgreSQL.

    Args:
        sample: the captured statement.
        paramstyle: of the dialect it was captured on: "pyformat", "format" or "numeric_dollar".

    Example:
        >>> number(Sample("SELECT %(a)s, 5 %% 2, %(b)s, %(a)s"), "pyformat").sql
        'SELECT $1, 5 % 2, $2, $1'
        >>> number(Sample("SELECT $1, 5 % 2, '$2'", (7,)), "numeric_dollar").bound_sql
        "SELECT %(p1)s, 5 %% 2, '$2'"
    """
    if paramstyle in {"pyformat", "format"}:
        return _from_format(sample)
    return _from_dollars(sample)


def _from_format(sample: Sample) -> Numbered:
    numbers: dict[str, int] = {}

    def replace(match: re.Match[str]) -> str:
        if match["percent"]:
            return "%"
        key = match["name"] if match["name"] is not None else f"\0{len(numbers)}"
        return f"${numbers.setdefault(key, len(numbers) + 1)}"

    sql = _PYFORMAT.sub(replace, sample.sql)
    return Numbered(sql, sample.sql, sample.parameters or None, bool(numbers))


def _from_dollars(sample: Sample) -> Numbered:
    numbers: set[str] = set()

    def replace(match: re.Match[str]) -> str:
        if match["number"]:
            numbers.add(match["number"])
            return f"%(p{match['number']})s"
        return match[0].replace("%", "%%")

    bound_sql = _DOLLAR.sub(replace, sample.sql)
    values = sample.parameters
    if isinstance(values, Sequence) and values:
        values = {f"p{position}": value for position, value in enumerate(values, 1)}
    return Numbered(sample.sql, bound_sql, values or None, bool(numbers))


def name_placeholders(sql: str) -> str:
    """Replace PostgreSQL's `$1` by `:p1`.

    Example:
        >>> name_placeholders("SELECT '$1', $2::int")
        "SELECT '$1', :p2::int"
    """
    return _DOLLAR.sub(lambda match: f":p{match['number']}" if match["number"] else match[0], sql)
