"""Explains one statement on the database that it ran on: its plan, and what the catalog adds to it.

On PostgreSQL all of it happens in one transaction that is read only, limited in time, and rolled back. The
statement is planned; it is executed (`EXPLAIN ANALYZE`) only when that is asked for, when it is understood as
a SELECT that writes nothing (`upshift.sql.statement`), and when its plan calls nothing that could change
something (`upshift.sql.plans.safety`). SQLite is only asked for its plan.
"""

from __future__ import annotations

import re
import sqlite3
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from upshift.errors import MissingExtraError
from upshift.sql.placeholders import Sample, number
from upshift.sql.plans.casts import Cast, find_casts
from upshift.sql.plans.explain import ExplainRefusedError, ask_postgres, refusal
from upshift.sql.plans.mariadb import plan_mariadb
from upshift.sql.plans.misestimates import Misestimate, find_misestimates
from upshift.sql.plans.postgres import read_postgres
from upshift.sql.plans.safety import why_not_executed
from upshift.sql.plans.sqlite import plan_sqlite
from upshift.sql.plans.tree import PlanTree  # noqa: TC001 - msgspec reads the types when it decodes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from upshift.sql.placeholders import Numbered

STATEMENT_SECONDS = 5.0
"""How long the database may take to explain a statement, or to execute it where that is asked for."""

LOCK_SECONDS = 0.5
"""How long the planner may wait for a table that somebody holds."""

MAX_LENGTH = 64 * 1024
"""Characters of a statement that is still explained; bulk statements are longer, and have short plans."""

_KEYWORD = re.compile(
    r"(?:\s|\(|/\*.*?\*/|--[^\n]*\n)*+(?:SELECT|WITH|VALUES|TABLE|INSERT|UPDATE|DELETE|MERGE|REPLACE)\b",
    re.IGNORECASE | re.DOTALL,
)
_SETTINGS_SINCE = (12,)
_RAW = {"no_parameters": True}


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """How a database answers a statement, and what stands in its way.

    Attributes:
        tree: the plan; for the sample's parameters where there were any that fit.
        generic: the plan for any parameters, where it was asked for and the database gives one.
        casts: casts of columns that keep an index from being used.
        misestimates: tables whose rows differ much from the estimate; empty unless it was executed.
        note: why it was not executed though that was asked for; "" where it was, or was not asked for.
    """

    tree: PlanTree
    generic: PlanTree | None = None
    casts: tuple[Cast, ...] = ()
    misestimates: tuple[Misestimate, ...] = ()
    note: str = ""


def explain_statement(  # noqa: PLR0913 - settings with defaults, named by their callers
    connection: sa.Connection,
    sample: Sample,
    *,
    paramstyle: str | None = None,
    analyze: bool = False,
    with_generic: bool = False,
    seconds: float = STATEMENT_SECONDS,
) -> Explanation:
    """Explain a statement.

    Args:
        connection: a synchronous one, outside of any transaction.
        sample: the statement, with parameters where there are some.
        paramstyle: of the dialect it was captured on, where that is not the connection's own.
        analyze: execute it to measure it, where that is safe.
        with_generic: ask for the plan for any parameters as well.
        seconds: how long the database may take.

    Raises:
        ExplainRefusedError: the text is not one statement, or the database refused; its words are the
            message.
        MissingExtraError: `analyze` is asked for, and the extra that reads statements is not installed.
        sqlalchemy.exc.DBAPIError: the connection broke.

    Example:
        >>> engine = sa.create_engine("sqlite://")
        >>> with engine.connect() as connection:
        ...     _ = connection.exec_driver_sql("CREATE TABLE t (id INTEGER PRIMARY KEY)")
        ...     explanation = explain_statement(connection, Sample("SELECT * FROM t WHERE id = 7"))
        >>> explanation.tree.nodes[0].index
        'INTEGER PRIMARY KEY'
        >>> engine.dispose()
    """
    if len(sample.sql) > MAX_LENGTH:
        raise ExplainRefusedError(f"the statement is longer than {MAX_LENGTH:,} characters")
    if ";" in sample.sql.rstrip().removesuffix(";") or "\0" in sample.sql:
        raise ExplainRefusedError("the text holds a semicolon, so it may be several statements")
    if not _KEYWORD.match(sample.sql):
        raise ExplainRefusedError("only statements that read or write rows have plans")
    sample = Sample(sample.sql.rstrip().removesuffix(";"), sample.parameters)
    match connection.dialect.name:
        case "sqlite":
            driver = connection.connection.driver_connection
            if not isinstance(driver, sqlite3.Connection):
                raise ExplainRefusedError("plans on SQLite need Python's own sqlite3 driver")
            note = "SQLite measures no plans" if analyze else ""
            return Explanation(tree=plan_sqlite(driver, sample), note=note)
        case "postgresql":
            numbered = number(sample, paramstyle or connection.dialect.paramstyle)
            with connection.begin() as transaction:
                try:
                    _limit(connection, seconds)
                    return _explain(connection, numbered, analyze=analyze, with_generic=with_generic)
                finally:
                    transaction.rollback()
        case "mysql" | "mariadb":
            note = "only PostgreSQL's plans are measured" if analyze else ""
            return Explanation(tree=plan_mariadb(connection, sample, seconds=seconds), note=note)
        case name:
            raise ExplainRefusedError(f"plans are read on PostgreSQL, SQLite, MariaDB and MySQL, not {name}")


def _limit(connection: sa.Connection, seconds: float) -> None:
    milliseconds = {"statement_timeout": seconds * 1e3, "lock_timeout": LOCK_SECONDS * 1e3}
    limits = "".join(f"; SET LOCAL {name} = {limit:.0f}" for name, limit in milliseconds.items())
    connection.exec_driver_sql(f"SET TRANSACTION READ ONLY{limits}", execution_options=_RAW)


def _explain(
    connection: sa.Connection, statement: Numbered, *, analyze: bool, with_generic: bool
) -> Explanation:
    version = connection.dialect.server_version_info or ()
    options = ["VERBOSE", *(["SETTINGS"] if version >= _SETTINGS_SINCE else [])]
    answer = ask_postgres(connection, statement, *options)
    note = ""
    if analyze:
        note = _why_not(connection, statement, answer.document[0]["Plan"], is_generic=answer.is_generic)
        if not note:
            try:
                answer = ask_postgres(connection, statement, "ANALYZE", "BUFFERS", *options)
            except ExplainRefusedError as error:
                note = f"executing it failed: {error}"
    told = ".".join(map(str, version))
    tree = read_postgres(answer.document, is_generic=answer.is_generic, version=told)
    generic = tree if answer.is_generic or not statement.has_placeholders else None
    if with_generic and generic is None:
        generic = _generic(connection, statement, options, told)
    try:
        with connection.begin_nested():
            casts = find_casts(connection, tree, statement.sql)
            misestimates = find_misestimates(connection, tree)
    except sa.exc.DBAPIError as error:
        raise ExplainRefusedError(refusal(error)) from error
    return Explanation(tree=tree, generic=generic, casts=casts, misestimates=misestimates, note=note)


def _generic(
    connection: sa.Connection, statement: Numbered, options: list[str], version: str
) -> PlanTree | None:
    without_values = replace(statement, values=None)
    try:
        answer = ask_postgres(connection, without_values, *options)
    except ExplainRefusedError:  # before PostgreSQL 16, or the parameters' types cannot be told
        return None
    return read_postgres(answer.document, is_generic=True, version=version)


def _why_not(
    connection: sa.Connection, statement: Numbered, plan: Mapping[str, Any], *, is_generic: bool
) -> str:
    """Why it is better not executed; "" where it may be."""
    try:
        from upshift.sql.statement import UnreadableStatementError, read_statement
    except ModuleNotFoundError as error:
        raise MissingExtraError("telling whether a statement may be executed", "find") from error
    if is_generic:
        return "there are no sample parameters that fit"
    try:
        if not read_statement(statement.sql, "postgresql").is_select:
            return "it writes"
    except UnreadableStatementError as error:
        return str(error)
    return why_not_executed(connection, plan)
