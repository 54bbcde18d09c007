"""A `Comparison` for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group
from rich.table import Table
from rich.text import Text

from upshift.prove.comparison import METRICS
from upshift.prove.statistics import Verdict

if TYPE_CHECKING:
    from upshift.prove.comparison import Comparison, Metric, Result, ScenarioResult
    from upshift.prove.statistics import Ratio

_STYLES = {
    Verdict.FASTER: "bold green",
    Verdict.SLOWER: "bold red",
    Verdict.INCONCLUSIVE: "",
    Verdict.VOID: "yellow",
}
_MINUS = "\N{MINUS SIGN}"


def table(comparison: Comparison) -> Group:
    """For each scenario its A/A run and every metric of its A/B, for `rich` to print within 80 columns."""
    parts: list[Text | Table] = []
    for scenario in comparison.scenarios:
        parts.append(Text(f"{scenario.name}   {_count(scenario.requests, 'request')} a sample", style="bold"))
        grid = Table.grid(padding=(0, 2, 0, 0))
        for row in _control_rows(scenario, comparison.control_pairs_needed) + _rows(scenario):
            grid.add_row(*row)
        parts.append(grid)
    return Group(*parts, *_closing(comparison))


def _control_rows(scenario: ScenarioResult, pairs_needed: int) -> list[list[Text]]:
    """The A/A of CPU per request, and of whatever else differs from itself."""
    rows = []
    for result in scenario.results.values():
        verdict, remark = Verdict.INCONCLUSIVE.value, "as it should be"
        if result.verdict is Verdict.VOID:
            verdict, remark = "DIFFERENT", "from itself"
        elif not result.control.bounded:
            verdict, remark = "cannot tell", f"below {_count(pairs_needed, 'pair')}"
        if result.metric == METRICS[0] or result.verdict is Verdict.VOID:
            label, change = result.metric.label, _change(result.control)
            rows.append([Text("A/A"), Text(verdict), Text(label), Text(change), Text(remark)])
    return rows


def _rows(scenario: ScenarioResult) -> list[list[Text]]:
    rows = []
    for number, result in enumerate(scenario.results.values()):
        verdict = result.verdict
        shown = verdict.upper() if verdict in {Verdict.FASTER, Verdict.SLOWER} else verdict.value
        rows.append(
            [
                Text("" if number else "A/B"),
                Text(shown, style=_STYLES[verdict]),
                Text(result.metric.label),
                Text("withheld" if verdict is Verdict.VOID else _change(result.ratio)),
                Text(_values(result)),
            ]
        )
    return rows


def _closing(comparison: Comparison) -> list[Text]:
    pairs, scenarios = comparison.design.pairs, len(comparison.scenarios)
    lines = [f"{_count(pairs, 'pair')}, {comparison.seconds:.0f} s"]
    if pairs < comparison.pairs_needed:
        lines.append(
            f"too few pairs to decide {_count(scenarios, 'scenario')} at {comparison.design.confidence:.0%} "
            f"confidence: take at least {comparison.pairs_needed}"
        )
    if comparison.verdict is Verdict.VOID:
        lines.append(
            "void: the machine was too noisy to tell the base from itself; repeat it with nothing else "
            "running, or with more requests and pairs"
        )
    return [Text(lines[0]), *(Text(line, style=_STYLES[Verdict.VOID]) for line in lines[1:])]


def _change(ratio: Ratio) -> str:
    """A ratio as a change with its interval.

    Example:
        >>> from upshift.prove.statistics import Ratio
        >>> _change(Ratio(0.625, 0.59, 0.668, confidence=0.95, blocks=20)).replace(_MINUS, "-")
        '-37.5 % [-41.0, -33.2]'
    """
    interval = f"[{_percent(ratio.low)}, {_percent(ratio.high)}]" if ratio.bounded else "[unbounded]"
    return f"{_percent(ratio.value)} % {interval}"


def _percent(ratio: float) -> str:
    return f"{(ratio - 1) * 100:+.1f}".replace("-", _MINUS)


def _values(result: Result) -> str:
    scale, unit = _scale(result.metric, max(result.base, result.head))
    return f"{_short(result.base * scale)} → {_short(result.head * scale)} {unit}"


def _scale(metric: Metric, value: float) -> tuple[float, str]:
    """The factor and the name of the unit in which a value reads best."""
    if metric.unit != "s":
        return 1, "/s"
    scales: tuple[tuple[float, str], ...] = ((1, "s"), (1e3, "ms"))
    return next((scaled for scaled in scales if value * scaled[0] >= 1), (1e6, "µs"))


def _short(value: float) -> str:
    """Three significant digits, thousands in full.

    Example:
        >>> _short(1.2345), _short(48.31), _short(12345.6)
        ('1.23', '48.3', '12,346')
    """
    decimals = 2 if value < 10 else 1 if value < 100 else 0  # noqa: PLR2004 - powers of ten
    return f"{value:,.{decimals}f}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
