"""Two periods compared, as one document: what changed, and of what was it asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from upshift.errors import UpshiftError
from upshift.sql.analysis.document import Document, Row, Site, Source, windows_of
from upshift.sql.analysis.shift import shift
from upshift.sql.analysis.trends import ALPHA, ENOUGH, TrendKind, compare, halves

if TYPE_CHECKING:
    from collections.abc import Sequence

    from upshift.sql.analysis.trends import Trend
    from upshift.sql.analysis.windows import Window


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """One of the periods.

    Attributes:
        source: whose statements they are.
        seconds: how long it is.
        windows: the windows in which there were requests with statements.
        requests: these requests.
    """

    source: Source
    seconds: float
    windows: int
    requests: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What changed of one kind of statement; see `upshift.sql.analysis.trends.Trend`.

    Attributes:
        digest: its id.
        text: the statement without its values.
        kind: what changed.
        before: in the earlier period, seconds an execution or executions for each request.
        after: the same in the later one.
        low: the lower end of the interval of after / before; null for what is new or gone.
        high: the upper end.
        routes: executions by route, in the later period where it is there.
        sites: the lines it is sent from, likewise.
    """

    digest: str
    text: str
    kind: TrendKind
    before: float
    after: float
    low: float | None
    high: float | None
    routes: dict[str, int]
    sites: tuple[Site, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The whole.

    Attributes:
        version: of the schema.
        before: the earlier period.
        after: the later one.
        compared: kinds of statement with enough executions in one of them.
        changes: what changed, the largest change first.
        notes: what the reader should know.
    """

    version: Literal[1] = 1
    before: Period
    after: Period
    compared: int
    changes: tuple[Change, ...]
    notes: tuple[str, ...]


def compare_documents(earlier: Document, later: Document | None = None) -> Comparison:
    """Compare two documents or, where there is but one, its earlier half with its later one.

    Raises:
        UpshiftError: a document tells of a part of its statements only, so others would seem to be gone.
    """
    for each in (earlier, later):
        if each is not None and len(each.statements) < each.digests:
            raise UpshiftError(
                f"a document tells of {len(each.statements)} statements only, of {each.digests} that were"
                " known; to compare it, all have to be in it (--top 100000)"
            )
    if later is None:
        before, after = halves(windows_of(earlier))
        later = earlier
    else:
        before, after = windows_of(earlier), windows_of(later)
    known = {row.digest: row for row in (*earlier.statements, *later.statements)}
    return Comparison(
        before=_period(earlier, before),
        after=_period(later, after),
        compared=sum(any(_count(digest, side) >= ENOUGH for side in (before, after)) for digest in known),
        changes=tuple(_change(trend, known[trend.digest]) for trend in compare(before, after)),
        notes=tuple(_notes(before, after, len(known))),
    )


def _period(document: Document, windows: Sequence[Window]) -> Period:
    used = [window for window in windows if window.records]
    return Period(
        source=document.source,
        seconds=document.window_seconds * len(windows),
        windows=len(used),
        requests=sum(window.records for window in used),
    )


def _notes(before: Sequence[Window], after: Sequence[Window], digests: int) -> list[str]:
    counts = [sum(window.records > 0 for window in side) for side in (before, after)]
    # Whether the least that can happen by chance is little enough for so many statements.
    is_enough = shift([0.0] * counts[0], [1.0] * counts[1], ALPHA / (2 * digests)) if digests else True
    if is_enough:
        return []
    told = " and ".join(map(str, counts))
    return [f"too short to tell a trend of {digests} statements: {told} windows of time with requests"]


def _count(digest: str, windows: Sequence[Window]) -> int:
    return sum(window.usage[digest].count for window in windows if digest in window.usage)


def _change(trend: Trend, row: Row) -> Change:
    return Change(
        digest=trend.digest,
        text=row.text,
        kind=trend.kind,
        before=trend.before,
        after=trend.after,
        low=trend.low,
        high=trend.high,
        routes=row.routes,
        sites=row.sites,
    )
