"""What EXPLAIN says a statement would cost and which indexes it would use.

No statement is executed on the user's database by what is here: PostgreSQL is asked with plain `EXPLAIN`; for
what ANALYZE is asked, see `upshift.sql.plans.explanation`. Its costs are the planner's
(https://www.postgresql.org/docs/current/using-explain.html). SQLite gives no costs, so there the cost is the
number of virtual-machine steps that the statement takes when it runs on a private copy; see
`upshift.sql.indexes.trial_sqlite`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import sqlalchemy as sa

from upshift.errors import UpshiftError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from upshift.sql.placeholders import Numbered, Parameters

MAX_LINES = 40
"""Lines of a plan that are kept."""

_GENERIC_PLAN_SINCE = (16,)


class ExplainRefusedError(UpshiftError):
    """The database would not explain the statement; the message is its reason."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How the planner means to answer a statement.

    Attributes:
        cost: the planner's total cost on PostgreSQL, virtual-machine steps on SQLite.
        lines: the plan for readers, one node a line, without the values it was planned for.
        indexes: names of the indexes it uses.
    """

    cost: float
    lines: tuple[str, ...]
    indexes: frozenset[str]


class Answer(NamedTuple):
    """What PostgreSQL answered.

    Attributes:
        document: the plan as it gave it.
        is_generic: whether it is for any values, and not for the sample's.
    """

    document: list[dict[str, Any]]
    is_generic: bool


def explain_postgres(connection: sa.Connection, statement: Numbered) -> Plan:
    """Plan a statement inside the connection's transaction, which survives a refusal.

    With sample parameters the plan is the one for these values; when they do not fit, or without any, it is
    the generic one.

    Args:
        connection: a connection in a transaction.
        statement: one statement that `upshift.sql.statement.read_statement` has accepted.

    Raises:
        ExplainRefusedError: the database refused; its words are the message.
        sqlalchemy.exc.DBAPIError: the connection broke (`connection_invalidated`).
    """
    return parse_postgres(ask_postgres(connection, statement).document)


def ask_postgres(connection: sa.Connection, statement: Numbered, *options: str) -> Answer:
    """Have a statement explained inside the connection's transaction, which survives a refusal.

    Args:
        connection: a connection in a transaction.
        statement: one statement.
        options: of EXPLAIN, besides its format.

    Raises:
        ExplainRefusedError: the database refused; its words are the message.
        sqlalchemy.exc.DBAPIError: the connection broke (`connection_invalidated`).
    """
    explain = f"EXPLAIN ({', '.join(('FORMAT JSON', *options))}) "
    if statement.values is not None:
        try:
            return Answer(_send(connection, explain + statement.bound_sql, statement.values), False)
        except ExplainRefusedError:
            pass  # its words may hold the parameters' values; the generic plan's refusal cannot
    if not statement.has_placeholders:
        return Answer(_send(connection, explain + statement.sql), False)
    if (connection.dialect.server_version_info or ()) < _GENERIC_PLAN_SINCE:
        raise ExplainRefusedError("PostgreSQL before 16 explains only with sample parameters that fit")
    if "ANALYZE" in options:
        raise ExplainRefusedError("a statement is executed only with sample parameters that fit")
    explain = f"EXPLAIN ({', '.join(('FORMAT JSON', 'GENERIC_PLAN', *options))}) "
    return Answer(_send(connection, explain + statement.sql), True)


def _send(connection: sa.Connection, sql: str, values: Parameters = None) -> list[dict[str, Any]]:
    # Without values the driver must not look for placeholders: percent signs then stand for themselves.
    options = {} if values is not None else {"no_parameters": True}
    try:
        with connection.begin_nested():
            document = connection.exec_driver_sql(sql, values, execution_options=options).scalar_one()
    except sa.exc.DBAPIError as error:
        raise ExplainRefusedError(refusal(error)) from error
    except (sa.exc.SQLAlchemyError, ValueError, TypeError) as error:  # a value the driver cannot send
        raise ExplainRefusedError(first_line(error)) from error
    except RecursionError as error:
        raise ExplainRefusedError("its plan is nested too deeply") from error
    answer: list[dict[str, Any]] = json.loads(document) if isinstance(document, str) else document
    return answer


def parse_postgres(document: list[dict[str, Any]]) -> Plan:
    """Read the answer to `EXPLAIN (FORMAT JSON)`.

    Example:
        >>> node = {"Node Type": "Index Scan", "Index Name": "i", "Relation Name": "t",
        ...         "Total Cost": 8.3, "Plan Rows": 1}
        >>> parse_postgres([{"Plan": node}])
        Plan(cost=8.3, lines=('Index Scan using i on t (cost 8, rows 1)',), indexes=frozenset({'i'}))
    """
    root = document[0]["Plan"]
    nodes = list(_nodes(root, 0))
    return Plan(
        cost=float(root["Total Cost"]),
        lines=tuple("  " * depth + _line(node) for depth, node in nodes[:MAX_LINES]),
        indexes=frozenset(node["Index Name"] for _, node in nodes if "Index Name" in node),
    )


def _nodes(root: Mapping[str, Any], depth: int) -> Iterator[tuple[int, Mapping[str, Any]]]:
    yield depth, root
    for child in root.get("Plans", ()):
        yield from _nodes(child, depth + 1)


def _line(node: Mapping[str, Any]) -> str:
    # Conditions are left out: with sample parameters they would show the values.
    using = f" using {node['Index Name']}" if "Index Name" in node else ""
    on = f" on {node['Relation Name']}" if "Relation Name" in node else ""
    return f"{node['Node Type']}{using}{on} (cost {node['Total Cost']:.0f}, rows {node['Plan Rows']:.0f})"


def refusal(error: sa.exc.DBAPIError) -> str:
    """What the database has against a request; raises the error itself if the connection broke."""
    if error.connection_invalidated:
        raise error
    return first_line(error)


def first_line(error: BaseException) -> str:
    """The first line of what a driver said, without the statement that SQLAlchemy appends."""
    original = error.orig if isinstance(error, sa.exc.DBAPIError) else error
    return str(original).strip().partition("\n")[0] or type(original).__name__
