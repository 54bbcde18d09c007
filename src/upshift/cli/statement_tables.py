"""Statements for a terminal: what they cost, and what changed.

A statement has a line of figures, and below it its text and where it comes from. All of that is the
application's own, or a file's, so it passes through `one_line`, and nothing of it is taken for markup.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.style import Style
from rich.text import Text

from upshift.diagnose.formats.display import enclosing, one_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from upshift.sql.analysis.comparison import Change, Comparison, Period
    from upshift.sql.analysis.document import Document, Row, Site

MAX_ORIGINS = 3
"""Routes and call sites shown of one statement."""

MAX_STATEMENT = 220
"""Characters of a statement that are shown."""

LEAST_WIDTH = 20
"""Cells that a line has at least; a narrower terminal breaks the lines itself."""

BOLD = Style(bold=True)
DIM = Style(dim=True)
BAD = Style(color="red")
GOOD = Style(color="green")

_INDENT = "  "
_BILLION, _MILLION = 10**9, 10**6
_SECOND, _MILLISECOND = 1.0, 1e-3

Line = tuple[str, Style | None]


def seconds_text(seconds: float) -> str:
    """Return a time in the unit that suits it.

    Example:
        >>> [seconds_text(each) for each in (0.0000042, 0.0123, 3.2, 5400.0)]
        ['4.2 µs', '12.3 ms', '3.20 s', '5,400 s']
    """
    if seconds >= 100 * _SECOND:
        return f"{seconds:,.0f} s"
    if seconds >= _SECOND:
        return f"{seconds:.2f} s"
    if seconds >= _MILLISECOND:
        return f"{seconds * 1e3:.1f} ms"
    return f"{seconds * 1e6:.1f} µs"


def count_text(number: int) -> str:
    """Return a count that takes no more than seven columns.

    Example:
        >>> [count_text(each) for each in (0, 12345, 12345678, 12345678901)]
        ['0', '12,345', '12.3M', '12.3G']
    """
    if number >= _BILLION:
        return f"{number / _BILLION:.1f}G"
    return f"{number / _MILLION:.1f}M" if number >= _MILLION else f"{number:,}"


def show_queries(document: Document, notes: Iterable[str], console: Console | None = None) -> None:
    """Print what statements cost."""
    console = console or Console()
    show(_queries(document), console)
    show(_told(notes), console)


def show_comparison(comparison: Comparison, notes: Iterable[str], console: Console | None = None) -> None:
    """Print what changed between two periods."""
    console = console or Console()
    show(_changes(comparison), console)
    show(_told((*comparison.notes, *notes)), console)


def tell_notes(notes: Iterable[str]) -> None:
    """Print notes beside a document that has no place for them, on standard error."""
    for line, _ in _told(notes):
        click.echo(line, err=True)


def show(lines: Iterable[Line], console: Console) -> None:
    """Print lines; one that is too long goes on in the next line, as far in as it began."""
    for text, style in lines:
        indent = _INDENT if text.startswith(_INDENT) and not text.startswith(_INDENT * 2) else ""
        width = max(console.width - len(indent), LEAST_WIDTH)
        for part in Text(text.removeprefix(indent)).wrap(console, width, overflow="fold"):
            line = Text(f"{indent}{part.plain.rstrip()}", style or "")
            console.print(line, highlight=False, soft_wrap=True)


def statement_lines(
    text: str, sites: Sequence[Site], routes: Mapping[str, int], count: int
) -> Iterator[Line]:
    """Yield a statement, and where it comes from."""
    yield _INDENT + one_line(text, MAX_STATEMENT), None
    places = [
        (f"{each.file}:{each.line} {enclosing(each.function)}", each.count) for each in sites[:MAX_ORIGINS]
    ]
    if places:
        yield f"{_INDENT}at {_origins(places, len(sites), count)}", DIM
    if routes:
        yield f"{_INDENT}on {_origins([*routes.items()][:MAX_ORIGINS], len(routes), count)}", DIM


def _origins(shown: Sequence[tuple[str, int]], known: int, count: int) -> str:
    told = [
        one_line(name) + (f" ({min(number / count, 1.0):.0%})" if known > 1 and count else "")
        for name, number in shown
    ]
    return ", ".join([*told, *([f"… and {known - len(shown)} more"] if known > len(shown) else [])])


def _queries(document: Document) -> Iterator[Line]:
    if not document.statements:
        yield "no statements", None
    else:
        yield _figures("total", "share", "count", "mean", "p95", "p99", "rows", "slow", "errors"), BOLD
    for row in document.statements:
        yield _row_figures(row), BAD if row.failed or row.slow else None
        yield from statement_lines(row.text, row.sites, row.routes, row.count)
    source = document.source
    shown = len(document.statements)
    of = f"{shown} of {document.digests}" if shown < document.digests else str(shown)
    summary = (
        f"{of} kinds of statement, {document.executions:,} executions of {seconds_text(document.seconds)}"
        f" in {seconds_text(source.seconds)}; slow is {seconds_text(document.slow_seconds)} or more"
    )
    yield summary, BOLD
    yield _of(document), DIM
    if document.untold:
        yield f"note: {document.untold:,} executions were only counted, for want of room", DIM


def _of(document: Document) -> str:
    source = document.source
    name, since = one_line(source.service), one_line(source.since)
    if source.kind == "recording":
        return f"recording of {name}, process {source.pid}, from {since} on"
    return f"process {source.pid} of {name}, since {since}; each worker tells of its own statements only"


def _row_figures(row: Row) -> str:
    times = row.seconds
    return _figures(
        seconds_text(times.total),
        f"{row.share:.0%}",
        count_text(row.count),
        *map(seconds_text, (times.mean, times.p95, times.p99)),
        *map(count_text, (row.rows, row.slow, row.failed)),
    )


def _figures(*cells: str) -> str:
    widths = (8, 5, 8, 9, 9, 9, 8, 7, 7)
    return " ".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))


def _changes(comparison: Comparison) -> Iterator[Line]:
    for change in comparison.changes:
        worse = change.kind in {"slower", "more frequent", "new"}
        yield _change_figures(change), BAD if worse else GOOD
        yield from statement_lines(change.text, change.sites, change.routes, sum(change.routes.values()))
    changed = len(comparison.changes)
    changes = f"{changed or 'no'} change{'' if changed == 1 else 's'}"
    yield f"{changes} among {comparison.compared} kinds of statement", BOLD
    yield f"before  {_period(comparison.before)}", DIM
    yield f"after   {_period(comparison.after)}", DIM


def _change_figures(change: Change) -> str:
    if change.kind in {"new", "gone"}:
        rate = change.after if change.kind == "new" else change.before
        return f"{change.kind}: {rate:.2g} for each request"
    told = seconds_text if change.kind in {"slower", "faster"} else "{:.2g} for each request".format
    interval = f"[{change.low:.2f}, {change.high:.2f}]" if change.low and change.high else ""
    times = change.after / change.before if change.before else 0.0
    return f"{change.kind}: {told(change.before)} → {told(change.after)}, {times:.2f}x {interval}"


def _period(period: Period) -> str:
    return (
        f"{one_line(period.source.service)}, process {period.source.pid}: {seconds_text(period.seconds)}, "
        f"{period.requests:,} requests with statements, {period.windows} windows"
    )


def _told(notes: Iterable[str]) -> Iterator[Line]:
    for note in notes:
        yield f"note: {one_line(note, None)}", DIM
