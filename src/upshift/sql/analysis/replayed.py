"""What became of statements that were sent again, as a document: to be printed, saved, and compared with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """What became of one kind of statement.

    Attributes:
        digest: its id.
        text: the statement without its values.
        count: executions in the recording.
        samples: how many of them were sent again.
        recorded_seconds: what these took when they were recorded, on average.
        seconds: what they took now, the median of some executions each, on average; None where none was.
        recorded_rows: rows that they gave when they were recorded, together; None where that is not known.
        rows: rows that they gave now.
        cost: the planner's cost of the generic plan, where there were no parameters.
        note: why it was not executed, or not to its end; "" where it was.
    """

    digest: str
    text: str
    count: int
    samples: int = 0
    recorded_seconds: float = 0.0
    seconds: float | None = None
    recorded_rows: int | None = None
    rows: int = 0
    cost: float | None = None
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayDocument:
    """The whole. Within one `version` fields are added, never removed and never given another meaning.

    Attributes:
        version: of the schema.
        database: what they were sent to: the dialect, and the server's version.
        statements: the statements, the most expensive of the recording first.
    """

    version: Literal[1] = 1
    database: str
    statements: tuple[Replayed, ...]
