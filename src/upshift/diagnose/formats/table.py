"""Findings for a terminal.

One finding is one block, its parts in three columns: the code, what the line tells, and the text, which wraps
within its column. Where the terminal is wide enough for all of them, titles stand beside their lines of code.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from rich.cells import cell_len
from rich.console import Console
from rich.segment import Segment, Segments
from rich.style import Style
from rich.text import Text

from upshift.diagnose.finding import Severity
from upshift.diagnose.formats.display import enclosing, evidence, fix, one_line, relative

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from upshift.diagnose.finding import Finding
    from upshift.diagnose.report import Report

MAX_ROUTES = 3
"""Routes shown of one finding."""

LEAST_WIDTH = 20
"""Cells that the text has at least; a narrower terminal breaks the lines itself."""

_BOLD = Style(bold=True)
_DIM = Style(dim=True)
_SEVERITIES = {
    Severity.ERROR: Style(color="red", bold=True),
    Severity.WARNING: Style(color="yellow"),
    Severity.INFO: Style(color="cyan"),
}
_CODE = len("UP101 ")
_LABEL = len("warning ")


class _Row(NamedTuple):
    code: str
    label: str
    label_style: Style
    lines: Iterable[str]
    style: Style | None = None


def table(report: Report, *, console: Console | None = None, root: Path | None = None) -> str:
    """Return the report as it is to be shown, with colour only where the console has it.

    Args:
        report: what to print.
        console: tells width, colour and encoding; that of standard output where none is given. It honours
            `NO_COLOR`, `COLUMNS` and `TERM`.
        root: paths are relative to it; the current folder where none is given.
    """
    console = console or Console()
    width = max(console.width - _CODE - _LABEL, LEAST_WIDTH)
    segments = [segment for row in _rows(report, root, width) for segment in _segments(row, console, width)]
    segments.append(Segment(f"{one_line(report.summary, None)}\n"))
    with console.capture() as capture:
        console.print(Segments(segments), soft_wrap=True, end="")
    return capture.get().encode(console.encoding, "replace").decode(console.encoding)


def _rows(report: Report, root: Path | None, width: int) -> Iterator[_Row]:
    headings = [(_place(finding, root), one_line(finding.title)) for finding in report.findings]
    column = max((cell_len(place) for place, _ in headings), default=0) + 2
    fits = column + max((cell_len(title) for _, title in headings), default=0) <= width
    for finding, (place, title) in zip(report.findings, headings, strict=True):
        heading = [f"{place}{' ' * (column - cell_len(place))}{title}"] if fits else [place, title]
        yield _Row(finding.code, finding.severity.label, _SEVERITIES[finding.severity], heading, _BOLD)
        if finding.site is not None:
            yield _Row("", "on", _DIM, [_routes(finding)])
        yield _Row("", "seen", _DIM, evidence(finding), _DIM)
        yield _Row("", "fix", _DIM, fix(finding))
        yield _Row("", "expect", _DIM, [one_line(finding.expect)])
    for note in report.notes:
        yield _Row("", "note", _DIM, [one_line(note, None)])


def _place(finding: Finding, root: Path | None) -> str:
    if finding.site is None:
        return _routes(finding)
    file, line, function = finding.site
    return one_line(f"{relative(file, root)}:{line} {enclosing(function)}", None)


def _routes(finding: Finding) -> str:
    more = len(finding.routes) - MAX_ROUTES
    shown = [one_line(route) for route in islice(finding.routes, MAX_ROUTES)]
    return ", ".join([*shown, *([f"… and {more} more"] if more > 0 else [])])


def _segments(row: _Row, console: Console, width: int) -> Iterator[Segment]:
    """Lay out a row; one that has nothing to say takes no line."""
    code, label = f"{row.code:<{_CODE}}", f"{row.label:<{_LABEL}}"
    for line in filter(None, row.lines):
        for part in _wrapped(line, console, width):
            yield from (Segment(code, _BOLD), Segment(label, row.label_style), Segment(part, row.style))
            yield Segment.line()
            code, label = " " * _CODE, " " * _LABEL


def _wrapped(line: str, console: Console, width: int) -> Iterator[str]:
    if cell_len(line) <= width:
        yield line
    else:
        yield from (part.plain.rstrip() for part in Text(line).wrap(console, width, overflow="fold"))
