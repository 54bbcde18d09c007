"""A `Comparison` for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group
from rich.table import Table
from rich.text import Text

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
    """For each scenario a line for the A/A run and one for each metric of the A/B, for `rich` to print."""
    parts: list[Text | Table] = []
    for scenario in comparison.scenarios:
        parts += [
            Text(f"{scenario.name}   {scenario.requests:,} requests a sample"),
            _rows(scenario, comparison),
        ]
    return Group(*parts, *_closing(comparison))


def _rows(scenario: ScenarioResult, comparison: Comparison) -> Table:
    grid = Table.grid(padding=(0, 3, 0, 0))
    for _ in range(3):
        grid.add_column(no_wrap=True)
    grid.add_column()
    grid.add_column(no_wrap=True)
    for number, result in enumerate(scenario.results.values()):
        if number == 0:
            grid.add_row(
                "A/A", _control_verdict(result, comparison), result.metric.label, _change(result.control)
            )
        grid.add_row("" if number else "A/B", *_row(result))
    return grid


def _control_verdict(result: Result, comparison: Comparison) -> Text:
    if result.verdict is Verdict.VOID:
        return Text("DIFFERENT from itself", style=_STYLES[Verdict.VOID])
    if not result.control.bounded:
        return Text(f"cannot tell with fewer than {comparison.control_pairs_needed} pairs")
    return Text("inconclusive as it should be")


def _row(result: Result) -> tuple[Text, str, str, str]:
    verdict = result.verdict
    shown = verdict.upper() if verdict in {Verdict.FASTER, Verdict.SLOWER} else verdict.value
    change = (
        f"withheld: the base differs from itself by {_change(result.control)}"
        if verdict is Verdict.VOID
        else _change(result.ratio)
    )
    return Text(shown, style=_STYLES[verdict]), result.metric.label, change, _values(result)


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
        return 1, "requests/s"
    return next(
        ((scale, unit) for scale, unit in ((1, "s"), (1e3, "ms")) if value * scale >= 1),
        (1e6, "µs"),
    )


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
