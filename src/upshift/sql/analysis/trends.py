"""What has changed from one period to another: statements that became slower, more frequent, new, or gone.

Each window of a period gives one value: the geometric mean of a statement's times, or how often it was sent
for each request. `upshift.sql.analysis.shift` tells how far the later values lie above the earlier ones.
There is a trend where the whole interval is on one side, and the change is large enough to matter. All
statements are asked at once, so the confidence is shared among them (Bonferroni): with 95 %, none of all the
trends told is chance. What is periodic, as the load of a day, is no chance, and compared periods should be
alike in that.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from upshift.sql.analysis.shift import Shifts, absence

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from upshift.sql.analysis.windows import Usage, Window

TrendKind = Literal["slower", "faster", "more frequent", "less frequent", "new", "gone"]

ALPHA = 0.05
"""The probability, at most, that any of all the trends told together is chance."""

TIMES = 1.25
"""How many times slower or faster a statement is at least, to be worth telling."""

OFTENER = 1.5
"""How many times more or less frequent it is at least."""

LEAST_SECONDS = 0.0001
"""A difference that is smaller than this is the machine's."""

ENOUGH = 30
"""Executions in a period from which on it is compared."""

FEWEST = 3
"""Executions of a window whose mean is taken for one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trend:
    """One change of one kind of statement.

    Attributes:
        digest: the id of the statement's digest.
        kind: what changed.
        before: in the earlier period: seconds an execution for `slower` and `faster` (geometric mean), else
            executions for each request that sent statements.
        after: the same in the later period.
        low: the lower end of the interval of after / before; None for what is new or gone.
        high: the upper end.
    """

    digest: str
    kind: TrendKind
    before: float
    after: float
    low: float | None = None
    high: float | None = None


def halves(windows: Sequence[Window]) -> tuple[Sequence[Window], Sequence[Window]]:
    """Return the earlier and the later half of some windows, the later with the odd one."""
    middle = len(windows) // 2
    return windows[:middle], windows[middle:]


def compare(before: Sequence[Window], after: Sequence[Window]) -> tuple[Trend, ...]:
    """Tell what changed between two periods, the largest change first.

    Args:
        before: the windows of the earlier period.
        after: those of the later one.

    Example:
        >>> from upshift.sql.analysis.windows import Usage, Window
        >>> def window(seconds):
        ...     made = Window()
        ...     made.records = 10
        ...     made.usage["d1"] = Usage(10, 10 * math.log(seconds))
        ...     return made
        >>> (trend,) = compare([window(0.010 + i / 1e5) for i in range(6)],
        ...                    [window(0.020 + i / 1e5) for i in range(6)])
        >>> trend.kind, round(trend.after / trend.before, 1)
        ('slower', 2.0)
    """
    earlier = [window for window in before if window.records]
    later = [window for window in after if window.records]
    digests = sorted({digest for window in (*earlier, *later) for digest in window.usage})
    if not (earlier and later and digests):
        return ()
    alpha = ALPHA / (2 * len(digests))  # each is asked for its times and for its frequency
    shifts = Shifts(alpha)
    trends = [trend for digest in digests for trend in _of(digest, earlier, later, shifts)]
    return tuple(sorted(trends, key=_size, reverse=True))


def _of(digest: str, earlier: Sequence[Window], later: Sequence[Window], shifts: Shifts) -> Iterator[Trend]:
    early = [window.usage.get(digest) for window in earlier]
    late = [window.usage.get(digest) for window in later]
    counts = [sum(usage.count for usage in side if usage) for side in (early, late)]
    rates = [
        count / sum(window.records for window in side)
        for count, side in zip(counts, (earlier, later), strict=True)
    ]
    if not all(counts):
        present, absent = (late, early) if counts[1] else (early, late)
        seen = sum(usage is not None for usage in present)
        if max(counts) >= ENOUGH and absence(seen, len(present), len(absent)) <= shifts.alpha:
            kind: TrendKind = "new" if counts[1] else "gone"
            yield Trend(digest=digest, kind=kind, before=rates[0], after=rates[1])
        return
    if min(counts) < ENOUGH:
        return
    times = shifts.of(_logs(early), _logs(late))
    typical = [
        math.exp(sum(usage.logs for usage in side if usage) / sum(usage.count for usage in side if usage))
        for side in (early, late)
    ]
    if times and _is_trend(times.estimate, times.low, times.high, TIMES):
        kind = "slower" if times.estimate > 0 else "faster"
        if abs(typical[1] - typical[0]) >= LEAST_SECONDS:
            yield _trend(digest, kind, typical, times.low, times.high)
    often = shifts.of(_frequencies(early, earlier), _frequencies(late, later))
    if often and _is_trend(often.estimate, often.low, often.high, OFTENER):
        kind = "more frequent" if often.estimate > 0 else "less frequent"
        yield _trend(digest, kind, rates, often.low, often.high)


def _trend(digest: str, kind: TrendKind, values: Sequence[float], low: float, high: float) -> Trend:
    before, after = values
    return Trend(digest=digest, kind=kind, before=before, after=after, low=math.exp(low), high=math.exp(high))


def _is_trend(estimate: float, low: float, high: float, least: float) -> bool:
    return (low > 0 or high < 0) and abs(estimate) >= math.log(least)


def _logs(side: Sequence[Usage | None]) -> list[float]:
    return [usage.logs / usage.count for usage in side if usage and usage.count >= FEWEST]


def _frequencies(side: Sequence[Usage | None], windows: Sequence[Window]) -> list[float]:
    # The half keeps a window without an execution at a distance that can be told.
    return [
        math.log(((usage.count if usage else 0) + 0.5) / window.records)
        for usage, window in zip(side, windows, strict=True)
        if window.records >= FEWEST
    ]


def _size(trend: Trend) -> tuple[bool, float, float]:
    """New and gone ones by how often they are sent, before the others by their ratio."""
    if not (trend.before and trend.after):
        return True, trend.before + trend.after, 0.0
    return False, abs(math.log(trend.after / trend.before)), trend.after
