"""The statements of a recording, as executions that can be sent again: a few of each kind, drawn evenly."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any

from upshift.record.recording.parameters import is_recorded
from upshift.sql.analysis.digest import Digest, Digests

if TYPE_CHECKING:
    from upshift.record import Record, Statement

MAX_KINDS = 1_000
"""Kinds of statement that are kept."""

MAX_SAMPLES = 20
"""Executions kept of each kind; every execution is as likely among them as any other (reservoir sampling)."""


@dataclass(frozen=True, slots=True)
class Execution:
    """One recorded execution.

    Attributes:
        sql: the text as it was sent.
        parameters: its parameters; None where none were recorded, or some could not be.
        seconds: the time it took.
        rows: the rows it gave; None where that is not known.
    """

    sql: str
    parameters: Any
    seconds: float
    rows: int | None


@dataclass(slots=True)
class Case:
    """One kind of statement.

    Attributes:
        digest: what its executions have in common.
        count: executions that succeeded.
        seconds: their time, together.
        samples: some of them.
    """

    digest: Digest
    count: int = 0
    seconds: float = 0.0
    samples: list[Execution] = field(default_factory=list)


class Workload:
    """Gathers executions from records; the same records give the same ones.

    Example:
        >>> from upshift.record import Record, Statement
        >>> record = Record("GET", "/orders", 0.0)
        >>> record.add(Statement("SELECT 1", 0.0))
        >>> workload = Workload()
        >>> workload.add(record)
        >>> [(case.digest.text, case.count) for case in workload.cases()]
        [('SELECT ?', 1)]
    """

    def __init__(self) -> None:
        self._digests = Digests()
        self._cases: dict[str, Case] = {}
        self._random = Random(0)  # noqa: S311 - a sample, and the same one each time

    def add(self, record: Record) -> None:
        """Gather the statements of a record."""
        for statement in record.statements:
            if statement.error is None and statement.executions == 1:
                self._add(statement)

    def cases(self) -> tuple[Case, ...]:
        """Return what was gathered, the most expensive kind first."""
        return tuple(sorted(self._cases.values(), key=lambda case: case.seconds, reverse=True))

    def _add(self, statement: Statement) -> None:
        digest = self._digests.of(statement.sql)
        case = self._cases.get(digest.id)
        if case is None:
            if len(self._cases) >= MAX_KINDS:
                return
            case = self._cases[digest.id] = Case(digest)
        case.count += 1
        case.seconds += statement.seconds
        place = len(case.samples) if case.count <= MAX_SAMPLES else self._random.randrange(case.count)
        if place < MAX_SAMPLES:
            parameters = statement.parameters if is_recorded(statement.parameters) else None
            execution = Execution(statement.sql, parameters, statement.seconds, statement.rows)
            case.samples[place : place + 1] = [execution]
