"""Statements that were sent again, for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console

from upshift.cli.statement_tables import BOLD, DIM, MAX_STATEMENT, count_text, seconds_text, show
from upshift.diagnose.formats.display import one_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from upshift.cli.statement_tables import Line
    from upshift.sql.analysis.replayed import ReplayDocument, Replayed

_WIDTHS = (9, 8, 10, 10, 8, 10)


def show_replayed(
    replayed: ReplayDocument,
    earlier: ReplayDocument | None,
    notes: Iterable[str],
    console: Console | None = None,
) -> None:
    """Print how long each kind of statement took, beside what it took before.

    Args:
        replayed: the replay.
        earlier: the replay to tell it beside; the recording itself where there is none.
        notes: what the reader should know.
        console: where to; standard output where none is given.
    """
    show(_lines(replayed, earlier, notes), console or Console())


def _lines(replayed: ReplayDocument, earlier: ReplayDocument | None, notes: Iterable[str]) -> Iterator[Line]:
    before = {each.digest: each for each in earlier.statements} if earlier else {}
    yield _figures("count", "samples", "before" if earlier else "recorded", "now", "times", "rows"), BOLD
    for each in replayed.statements:
        known = before.get(each.digest)
        compared = (known.seconds if known else None) if earlier else each.recorded_seconds
        yield _row(each, compared), None
        yield f"  {one_line(each.text, MAX_STATEMENT)}", None
        yield from ((f"  {told}", DIM) for told in _remarks(each, known))
    done = sum(each.seconds is not None for each in replayed.statements)
    of = f"{done} of {len(replayed.statements)} kinds of statement"
    yield f"{of} were sent again to {one_line(replayed.database)}", BOLD
    if earlier is None:
        yield "times are of one connection alone: compare them with another replay (--against)", DIM
    for note in notes:
        yield f"note: {one_line(note, None)}", DIM


def _row(each: Replayed, before: float | None) -> str:
    if each.seconds is None:
        return _figures(count_text(each.count), "0", "", "", "", "")
    return _figures(
        count_text(each.count),
        str(each.samples),
        seconds_text(before) if before else "",
        seconds_text(each.seconds),
        f"{each.seconds / before:.2f}x" if before else "",
        count_text(each.rows),
    )


def _remarks(each: Replayed, known: Replayed | None) -> Iterator[str]:
    if each.note:
        costs = [f"{one.cost:,.0f}" for one in (known, each) if one is not None and one.cost is not None]
        cost = f"; planner cost {' → '.join(costs)}" if costs else ""
        yield f"not executed: {one_line(each.note)}{cost}"
    elif each.recorded_rows not in {None, each.rows}:
        yield f"other rows than when it was recorded: {each.recorded_rows:,}, now {each.rows:,}"


def _figures(*cells: str) -> str:
    return " ".join(f"{cell:>{width}}" for cell, width in zip(cells, _WIDTHS, strict=True))
