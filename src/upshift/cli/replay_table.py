"""Statements that were sent again, for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console

from upshift.cli.statement_tables import BOLD, DIM, MAX_STATEMENT, count_text, seconds_text, show
from upshift.diagnose.formats.display import one_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from upshift.cli.statement_tables import Line
    from upshift.sql.analysis.replay import Replayed

_WIDTHS = (9, 8, 10, 10, 8, 10)


def show_replayed(replayed: Sequence[Replayed], notes: Iterable[str], console: Console | None = None) -> None:
    """Print how long each kind of statement took, beside what it took when it was recorded."""
    show(_lines(replayed, notes), console or Console())


def _lines(replayed: Sequence[Replayed], notes: Iterable[str]) -> Iterator[Line]:
    yield _figures("count", "samples", "recorded", "now", "times", "rows"), BOLD
    for each in replayed:
        yield _row(each), None
        yield f"  {one_line(each.text, MAX_STATEMENT)}", None
        if each.note:
            cost = f"; planner cost {each.cost:,.0f}" if each.cost is not None else ""
            yield f"  not executed: {one_line(each.note)}{cost}", DIM
        elif each.recorded_rows not in {None, each.rows}:
            yield f"  other rows than when it was recorded: {each.recorded_rows:,}, now {each.rows:,}", DIM
    done = sum(each.seconds is not None for each in replayed)
    yield f"{done} of {len(replayed)} kinds of statement were sent again", BOLD
    yield "times are of one connection alone: compare them with another replay", DIM
    for note in notes:
        yield f"note: {one_line(note, None)}", DIM


def _row(each: Replayed) -> str:
    if each.seconds is None:
        return _figures(count_text(each.count), "0", "", "", "", "")
    times = f"{each.seconds / each.recorded_seconds:.2f}x" if each.recorded_seconds else ""
    return _figures(
        count_text(each.count),
        str(each.samples),
        seconds_text(each.recorded_seconds),
        seconds_text(each.seconds),
        times,
        count_text(each.rows),
    )


def _figures(*cells: str) -> str:
    return " ".join(f"{cell:>{width}}" for cell, width in zip(cells, _WIDTHS, strict=True))
