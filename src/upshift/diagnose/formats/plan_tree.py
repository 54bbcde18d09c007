"""A plan for a terminal: a line for each node, what it costs by itself, and a mark at the worst.

The numbers stand in columns at the right, so that they can be compared down the page; the node's name and its
conditions take what is left. Every name in a plan comes from the application's database and is neutralised
like any other of its texts.
"""

from __future__ import annotations

from datetime import UTC, datetime
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.segment import Segment, Segments
from rich.style import Style
from rich.text import Text

from upshift.diagnose.formats.display import one_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from upshift.sql import Explanation, PlanNode, PlanRun, PlanTree, StatementPlans

WIDTH = 80
"""Columns where there is no terminal that has any."""

FAR_OFF = 10.0
"""From which factor on a wrong estimate of rows is told."""

MAX_INDENT = 24
"""Columns by which a node is moved to the right at most; plans may be nested deeper than a line is wide."""

_BOLD = Style(bold=True)
_DIM = Style(dim=True)
_WORST = Style(color="red", bold=True)
_MARK = "> "
_ARROW = "-> "
_LEAST = 20
_KINDS = {"postgresql": "PostgreSQL", "sqlite": "SQLite", "mariadb": "MariaDB", "mysql": "MySQL"}
_LARGE = 1e6


class _Line(NamedTuple):
    text: str
    numbers: str = ""
    style: Style | None = None
    indent: int = 0


def plan_tree(explanation: Explanation, *, console: Console | None = None) -> str:
    """Return a plan as it is to be shown, with colour only where the console has it.

    Args:
        explanation: the plan, and what was found in it.
        console: tells width, colour and encoding; that of standard output where none is given. Where it is no
            terminal, lines have `WIDTH` columns.

    Example:
        >>> from upshift.sql import Explanation, PlanNode, PlanTree
        >>> scan = PlanNode(depth=0, kind="Seq Scan", relation="t", rows=5.0, cost=9.0, own_cost=9.0)
        >>> tree = PlanTree(database="postgresql", nodes=(scan,), cost=9.0, version="18.1")
        >>> print(plan_tree(Explanation(tree=tree)).splitlines()[-1])
        > Seq Scan on t                                                9  100%         5
    """
    console = console or Console()
    width = console.width if console.is_terminal else WIDTH
    lines = [*_head(explanation), *_nodes(explanation.tree), *_notes(explanation)]
    segments = [segment for line in lines for segment in _laid_out(line, console, width)]
    with console.capture() as capture:
        console.print(Segments(segments), soft_wrap=True, end="")
    return capture.get().encode(console.encoding, "replace").decode(console.encoding)


def plan_runs(plans: StatementPlans) -> str:
    """Return how a statement's plans followed each other, a line for each, the oldest first.

    Args:
        plans: what was kept of them.
    """
    runs = plans.telling_runs
    kind = "for any parameters" if plans.generic_runs else "as they came"
    return "".join(f"{line}\n" for line in (f"plans {kind}:", *map(_run, runs)))


def _run(run: PlanRun) -> str:
    since, last = (datetime.fromtimestamp(at, UTC) for at in (run.since, run.last))
    cost = f"  cost {median(run.costs):,.0f}" if run.costs else ""
    worst = run.tree.worst
    node = run.tree.nodes[worst or 0] if run.tree.nodes else None
    name = f"  {_name(node)}" if node else ""
    return one_line(f"  {since:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M} UTC  {run.count}x{cost}{name}", WIDTH)


def _head(explanation: Explanation) -> Iterator[_Line]:
    tree = explanation.tree
    facts = [f"{_KINDS[tree.database]} {tree.version}".strip()]
    facts.append("for any parameters" if tree.is_generic else "for these parameters")
    if tree.seconds is not None:
        facts.append(f"executed in {_milliseconds(tree.seconds)}")
    elif tree.cost is not None:
        facts.append(f"cost {tree.cost:,.0f}, not executed")
    if tree.planning_seconds is not None:
        facts.append(f"planned in {_milliseconds(tree.planning_seconds)}")
    yield _Line(one_line(", ".join(facts)), style=_DIM)
    if explanation.note:
        yield _Line(one_line(f"not executed: {explanation.note}"), style=_DIM)
    if tree.settings:
        yield _Line(
            one_line(", ".join(f"{name}={value}" for name, value in tree.settings.items())), style=_DIM
        )
    if tree.is_executed:
        yield _Line("", f"{'own time':>11} {'':>5}{'rows':>10} {'planned':>9}", _DIM)
    elif tree.cost is not None:
        yield _Line("", f"{'own cost':>11} {'':>5}{'rows':>10}", _DIM)


def _nodes(tree: PlanTree) -> Iterator[_Line]:
    worst = tree.worst
    for place, node in enumerate(tree.nodes):
        arrow = (_ARROW if node.depth else "").rjust(min(node.depth * len(_ARROW), MAX_INDENT))
        mark = _MARK if place == worst else " " * len(_MARK)
        style = _WORST if place == worst else None
        indent = len(mark) + len(arrow) + 2
        yield _Line(mark + arrow + _name(node), _numbers(tree, node), style, indent)
        for detail in _details(node):
            yield _Line(" " * indent + detail, style=_DIM, indent=indent + 2)


def _name(node: PlanNode) -> str:
    words = [node.kind]
    if node.index:
        words.append(f"using {node.index}")
    if node.relation:
        relation = node.relation
        words.append(f"on {relation}" if node.kind not in {"SCAN", "SEARCH"} else relation)
        if node.alias and node.alias != node.relation:
            words.append(node.alias)
    if node.label:
        words.append(f"({node.label})")
    return one_line(" ".join(words))


def _details(node: PlanNode) -> Iterator[str]:
    for name, text in node.conditions:
        yield one_line(f"{name}: {text}")
    if node.removed_rows >= 1.0:
        yield f"reads and drops {_count(node.removed_rows * (node.loops or 1.0))} rows"
    if node.spill_bytes:
        yield f"writes {node.spill_bytes / 2**20:,.1f} MB to disk for want of work_mem"
    factor = node.misestimate
    if factor > FAR_OFF:
        yield f"{_count(factor)} times the rows planned"
    elif factor < 1.0 / FAR_OFF:
        yield f"a {_count(1.0 / factor)}th of the rows planned"


def _numbers(tree: PlanTree, node: PlanNode) -> str:
    if node.cost is None:
        return ""
    share = tree.share(node)
    percent = "" if share is None else f"{share:.0%}"
    planned = _count(node.rows or 0.0)
    if not tree.is_executed:
        return f"{_count(node.own_cost or 0.0):>11} {percent:>5}{planned:>10}"
    if not node.loops:
        return f"{'never':>11} {'':>5}{'':>10} {planned:>9}"
    loops = "" if node.loops == 1 else f"{_count(node.loops)}x"
    rows = f"{loops}{_count(node.actual_rows or 0.0)}"
    return f"{_milliseconds(node.own_seconds or 0.0):>11} {percent:>5}{rows:>10} {planned:>9}"


def _notes(explanation: Explanation) -> Iterator[_Line]:
    for cast in explanation.casts:
        column = f"{cast.relation}.{cast.column} ({cast.column_type})"
        said = f"{column} is cast to {cast.cast_to}: {cast.index} cannot serve"
        yield _Line(one_line(said), style=_BOLD, indent=2)
    for miss in explanation.misestimates:
        said = f"{miss.relation}: {miss.planned_rows:,.0f} rows planned, {miss.actual_rows:,.0f} found"
        yield _Line(one_line(said), style=_BOLD, indent=2)


def _laid_out(line: _Line, console: Console, width: int) -> Iterator[Segment]:
    """Break what does not fit into further lines; the numbers stand in the first."""
    room = max(width - cell_len(line.numbers) - bool(line.numbers), _LEAST)
    if cell_len(line.text) <= room:
        parts = [line.text]
    else:
        start = len(line.text) - len(line.text.lstrip(" "))
        first = Text(line.text).wrap(console, room, overflow="fold")[0].plain
        rest = Text(line.text[len(first) :].strip())
        hanging = min(max(line.indent, start), width - _LEAST)
        further = rest.wrap(console, max(width - hanging, _LEAST), overflow="fold") if rest.plain else ()
        parts = [first.rstrip(), *(" " * hanging + part.plain.rstrip() for part in further)]
    for place, part in enumerate(parts):
        text = set_cell_size(part, room) + " " + line.numbers if line.numbers and place == 0 else part
        yield Segment(text.rstrip(), line.style)
        yield Segment.line()


def _count(number: float) -> str:
    if number >= _LARGE:
        return f"{number / _LARGE:,.1f}M"
    return f"{number:,.0f}" if number >= 10 or number == int(number) else f"{number:,.1f}"  # noqa: PLR2004


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:,.1f} ms" if seconds < 100 else f"{seconds:,.0f} s"  # noqa: PLR2004
