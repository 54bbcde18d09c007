"""What a recording tells, as an observation that the rules read like that of a running application.

They find in it what they find in the application itself, but for what needs a database (UP201 and others
that are told what a planner says), what only sampled requests tell (UP104, UP106) and what only the pool
knows (UP404); and but for what needs the application's source: the query that a fix names as `session.get`
is known by its line, so the command has to run in the folder that the application ran in.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, cast

from upshift.diagnose.observation import Observation
from upshift.errors import RecordingError, SettingsError
from upshift.record.ongoing import Excerpt, Ongoing
from upshift.settings import Settings
from upshift.sql.analysis.document import Document, Source, document
from upshift.sql.analysis.statistics import StatementTable

if TYPE_CHECKING:
    from collections.abc import Callable

    from upshift.record import Record
    from upshift.record.recording import Recording
    from upshift.settings import Arguments

MAX_RECORDS = 10_000
"""Records that the rules read, the first ones; all of them count in the statistics."""

MAX_STATEMENTS = 200_000
"""Statements of these records, together."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """What a recording came to.

    Attributes:
        observation: for the rules.
        document: its statements.
        remarks: what its reader should know, one fact a line.
    """

    observation: Observation
    document: Document
    remarks: tuple[str, ...]


def thresholds(settings: Settings) -> dict[str, Any]:
    """Return the settings by which findings are made, for the header of a recording.

    Example:
        >>> thresholds(Settings())["slow_statement_seconds"]
        0.1
    """
    return {
        "environment": settings.environment,
        "slow_statement_seconds": settings.slow_statement_seconds,
        "slow_request_seconds": settings.slow_request_seconds,
        **{each.name: getattr(settings.diagnose, each.name) for each in fields(settings.diagnose)},
    }


def observe(recording: Recording, *, on_record: Callable[[Record], None] = lambda _: None) -> Recorded:
    """Read a recording.

    Args:
        recording: the recording.
        on_record: is given each record.

    Raises:
        RecordingError: it cannot be read, or has settings that are none.
    """
    settings = _settings(recording)
    table = StatementTable(settings.slow_statement_seconds, longest_window=math.inf)
    kept: list[Record] = []
    statements = others = 0
    last = recording.header.clock
    for record in recording:
        table.fold(record)
        on_record(record)
        last = max(last, record.started + record.seconds)
        if isinstance(record, Ongoing | Excerpt):  # the rules read requests
            others += 1
        elif len(kept) < MAX_RECORDS and statements < MAX_STATEMENTS:
            kept.append(record)
            statements += len(record.statements)
    remarks = [*recording.remarks()]
    if recording.records - others > len(kept):
        requests = recording.records - others
        remarks.append(f"the rules read the first {len(kept):,} of its {requests:,} requests")
    source = Source(
        service=recording.header.service,
        kind="recording",
        pid=recording.header.pid,
        since=recording.header.started,
        seconds=last - recording.header.clock,
    )
    return Recorded(
        observation=Observation(records=tuple(kept), statements=table.rows(), settings=settings),
        document=document(table, source, settings.slow_statement_seconds),
        remarks=tuple(remarks),
    )


def _settings(recording: Recording) -> Settings:
    known = thresholds(Settings())  # a later version may have more
    given = {name: value for name, value in recording.header.settings.items() if name in known}
    try:
        return Settings().changed(cast("Arguments", given))
    except (SettingsError, TypeError) as error:
        raise RecordingError(f"{recording.path} has settings that are none: {error}") from error
