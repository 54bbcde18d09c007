"""At a terminal of 80 columns the demo's tables are whole: headings, names and figures."""

import io

import pytest
from rich.console import Console

from upshift.cli.demo.agreement import Agreement
from upshift.cli.demo.manifest import Endpoint, Manifest
from upshift.cli.demo.observer import Counts, Seen
from upshift.cli.demo.result import Result, StoredResult
from upshift.cli.demo.terminal import show_result
from upshift.prove import METRICS, Comparison, Design, Ratio, ScenarioResult, Variant, Verdict
from upshift.prove import Result as Measured

NAMES = ("seller's dashboard", "products that were bought together")
VARIANT = Variant("base", ("serve", "{port}"))
EVEN = Ratio(1.0, 0.98, 1.02, 0.95, 20)
LESS = Ratio(1 / 134.5, 1 / 155.3, 1 / 101.2, 0.95, 20)
BASES = {"cpu_per_request": 1.203, "p50": 1.305, "p95": 2.407, "requests_per_second": 134.0}
HEADS = {"cpu_per_request": 0.00894, "p50": 0.0123, "p95": 0.0345, "requests_per_second": 12_345.0}


def compared():
    results = {
        metric.key: Measured(metric, BASES[metric.key], HEADS[metric.key], LESS, EVEN, Verdict.INCONCLUSIVE)
        for metric in METRICS
    }
    scenarios = tuple(ScenarioResult(name, 100, results) for name in NAMES)
    return Comparison(VARIANT, VARIANT, Design(pairs=5), 96.4, scenarios, ())


def seen(statements, rows):
    counts = Counts(statements=statements, most_statements=statements, rows=rows, bytes=31_000.0)
    return Seen((), (), dict.fromkeys(NAMES, counts), {"/": "ok"})


def shown(*, stored):
    result = Result(
        manifest=Manifest("Shop", "shop:app", ".", "dataset", "DATABASE_URL", (Endpoint("list", ("/",)),)),
        database="PostgreSQL 18",
        before=seen(1_203, 123_456),
        after=seen(12, 12_345),
        indexes=(),
        comparison=compared(),
        stored=StoredResult(Agreement({}, 400, 300, (), 120), compared(), 60) if stored else None,
        seconds=90.0,
    )
    console = Console(file=io.StringIO(), width=80)
    show_result(console, result)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def tables(lines):
    """The lines of each table, without those about it."""
    rules = [number for number, line in enumerate(lines) if line.strip().startswith("──")]
    return ["\n".join(lines[rule - 1 : lines.index("", rule)]) for rule in rules]


FIRST = [
    ["endpoint", "statements", "rows", "CPU ms", "less CPU (interval)"],
    ["1203 → 12", "123456 → 12345", "1203 → 8.9", "134.5x [101.2, 155.3]"],
]
SECOND = [
    ["endpoint", "p50 ms", "p95 ms", "requests/s", "verdict"],
    ["1305 → 12.3", "2407 → 34.5", "134 → 12345", "inconclusive"],
]
THIRD = [
    ["endpoint", "CPU ms", "less CPU (interval)", "in all"],
    ["1203 → 8.9", "134.5x [101.2, 155.3]", "18090x"],
]
FOURTH = [
    ["endpoint", "p50 ms", "requests/s", "verdict"],
    ["1305 → 12.3", "134 → 12345", "inconclusive"],
]


@pytest.mark.parametrize(
    ("stored", "expected"), [(False, [FIRST, SECOND]), (True, [FIRST, SECOND, THIRD, FOURTH])]
)
def test_no_heading_no_name_and_no_figure_is_cut_or_lost(stored, expected):
    lines = shown(stored=stored)

    assert max(map(len, lines)) <= 80
    assert "…" not in "".join(lines)
    for table, (headings, figures) in zip(tables(lines), expected, strict=True):
        assert in_order(headings, table.splitlines()[0])
        assert sum(in_order(figures, line) for line in table.splitlines()) == len(NAMES)
        assert in_order(" ".join(NAMES).split(), " ".join(line.split("  ")[0] for line in table.splitlines()))


def in_order(words, text):
    """Whether all words are in the text, one after the other."""
    for word in words:
        _, found, text = text.partition(word)
        if not found:
            return False
    return True
