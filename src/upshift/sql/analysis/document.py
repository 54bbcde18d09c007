"""What is known of an application's statements, as one document: for programs, for tables, for comparisons.

The types below are the schema, and read a document back. Within one `version` fields are added, never removed
and never given another meaning.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

import msgspec

from upshift.errors import UpshiftError
from upshift.record.encodable import encodable
from upshift.sql.analysis.windows import MAX_WINDOWS, Usage, Window

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from upshift.record import CallSite
    from upshift.sql.analysis.statistics import StatementStatistics, StatementTable

Sort = Literal["total", "mean", "p95", "count", "rows", "errors"]

SORTS: Mapping[Sort, Callable[[Row], float]] = {
    "total": lambda row: row.seconds.total,
    "mean": lambda row: row.seconds.mean,
    "p95": lambda row: row.seconds.p95,
    "count": lambda row: row.count,
    "rows": lambda row: row.rows,
    "errors": lambda row: row.failed,
}
"""What rows are sorted by, the largest first."""

MAX_LOG = 50.0
"""The logarithm of more seconds than anything has taken."""

TOP = 20
"""Statements told where nothing else is asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Which statements are to be told.

    Attributes:
        top: how many.
        sort: by what, the largest first.
        route: only those that this route sends (`GET /orders`, or `/orders` for all its methods).
    """

    top: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = TOP
    sort: Sort = "total"
    route: str = ""


class Times(NamedTuple):
    """Seconds of the executions of one statement."""

    total: float
    min: float
    mean: float
    max: float
    p50: float
    p95: float
    p99: float


@dataclass(frozen=True, slots=True)
class Site:
    """A line that sends a statement.

    Attributes:
        file: the path, relative to the folder that the process runs in where it lies below that.
        line: the line number, from 1.
        function: the function's qualified name.
        count: executions from there.
    """

    file: str
    line: int
    function: str
    count: int


class Point(NamedTuple):
    """What a statement came to in one window, see `upshift.sql.analysis.windows.Usage`."""

    window: Annotated[int, msgspec.Meta(ge=0, lt=MAX_WINDOWS)]
    executions: int
    logs: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One kind of statement.

    Attributes:
        digest: its id.
        text: the statement without its values.
        count: executions.
        slow: those that took as long as the threshold, or longer.
        failed: those that failed.
        errors: these by the class of the exception.
        rows: rows fetched or changed.
        seconds: what the executions took.
        share: of all statements' time, from 0 to 1.
        routes: executions by route.
        sites: the lines it is sent from, the most frequent first.
        windows: what it came to in each window in which it was sent.
    """

    digest: str
    text: str
    count: int
    slow: int
    failed: int
    errors: dict[str, int]
    rows: int
    seconds: Times
    share: float
    routes: dict[str, int]
    sites: tuple[Site, ...]
    windows: tuple[Point, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Whose statements they are.

    Attributes:
        service: the application's name.
        kind: a process that runs, or the recording of one.
        pid: the process; of several workers each knows its own statements only.
        since: when it began to observe, in UTC (ISO 8601).
        seconds: how long it has observed.
    """

    service: str
    kind: Literal["process", "recording"]
    pid: int
    since: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """The whole.

    Attributes:
        version: of the schema.
        source: whose statements they are.
        slow_seconds: what counts as slow.
        digests: how many kinds of statement are known; `statements` may tell of fewer.
        executions: executions of all of them.
        seconds: the time of all of them.
        untold: executions that were only counted, as there were too many kinds, or too many in one request.
        window_seconds: the length of a window.
        windows: the records with statements that began in each window, the oldest first.
        statements: the statements that were asked for.
    """

    version: Literal[1] = 1
    source: Source
    slow_seconds: float
    digests: int
    executions: int
    seconds: float
    untold: int
    window_seconds: float
    windows: Annotated[tuple[int, ...], msgspec.Meta(max_length=MAX_WINDOWS)]
    statements: tuple[Row, ...]


def document(table: StatementTable, source: Source, slow_seconds: float, root: str = "") -> Document:
    """Tell all that a table knows, the most expensive statement first.

    Args:
        table: the statistics.
        source: whose they are.
        slow_seconds: what counts as slow.
        root: the folder that call sites are told relative to; "" for telling them as they are.
    """
    statistics = table.rows()
    windows = table.windows.all()
    seconds = sum(each.seconds.sum for each in statistics)
    return Document(
        source=source,
        slow_seconds=slow_seconds,
        digests=len(statistics),
        executions=sum(each.seconds.count for each in statistics),
        seconds=seconds,
        untold=table.untold,
        window_seconds=table.windows.seconds,
        windows=tuple(window.records for window in windows),
        statements=tuple(_row(each, seconds, windows, root) for each in statistics),
    )


def select(document: Document, choice: Choice) -> Document:
    """Return the document with the statements that were chosen."""
    rows = [row for row in document.statements if not choice.route or _is_of(row, choice.route)]
    rows.sort(key=SORTS[choice.sort], reverse=True)
    return replace(document, statements=tuple(rows[: choice.top]))


def windows_of(document: Document) -> tuple[Window, ...]:
    """Return the windows that a document tells of, for `upshift.sql.analysis.trends.compare`.

    Raises:
        UpshiftError: it tells of times that are none, as a file may that somebody has written by hand.
    """
    windows = []
    for records in document.windows:
        window = Window()
        window.records = records
        windows.append(window)
    for row in document.statements:
        for number, executions, logs in row.windows:
            if abs(logs) > MAX_LOG * executions:
                raise UpshiftError(f"the document tells of times that no statement takes ({row.digest})")
            if number < len(windows):
                windows[number].usage[row.digest] = Usage(executions, logs)
    return tuple(windows)


def encode(document: Document) -> bytes:
    """Return the document as JSON; what is no text in Unicode is told with question marks."""
    try:
        return msgspec.json.encode(document)
    except UnicodeEncodeError:  # a lone surrogate, in a file's name or a literal's place
        return msgspec.json.encode(encodable(msgspec.to_builtins(document)))


def _row(statistics: StatementStatistics, seconds: float, windows: tuple[Window, ...], root: str) -> Row:
    times = statistics.seconds
    told = (
        Times(times.sum, times.min, times.mean, times.max, *(times.quantile(q) for q in (0.5, 0.95, 0.99)))
        if times.count
        else Times(*[0.0] * 7)
    )
    sites = sorted(statistics.sites.items(), key=lambda item: -item[1])
    return Row(
        digest=statistics.digest.id,
        text=statistics.digest.text,
        count=times.count,
        slow=statistics.slow,
        failed=statistics.failed,
        errors=dict(statistics.errors),
        rows=statistics.rows,
        seconds=told,
        share=times.sum / seconds if seconds else 0.0,
        routes=dict(sorted(statistics.routes.items(), key=lambda item: -item[1])),
        sites=tuple(_site(site, count, root) for site, count in sites),
        windows=tuple(
            Point(number, usage.count, usage.logs)
            for number, window in enumerate(windows)
            if (usage := window.usage.get(statistics.digest.id))
        ),
    )


def _site(site: CallSite, count: int, root: str) -> Site:
    path = PurePath(site.file)
    file = path.relative_to(root).as_posix() if root and path.is_relative_to(root) else site.file
    return Site(file, site.line, site.function, count)


def _is_of(row: Row, route: str) -> bool:
    return any(route in {each, each.partition(" ")[2]} for each in row.routes)
