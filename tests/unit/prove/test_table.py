"""The table tells the verdicts in words, in 80 columns."""

import io

import pytest
from rich.console import Console

from upshift.prove import METRICS, Comparison, Design, Ratio, Result, ScenarioResult, Variant, Verdict, table

VARIANT = Variant("base", ("serve", "{port}"))
CPU, _, _, THROUGHPUT = METRICS
EVEN = Ratio(0.996, 0.969, 1.022, 0.95, 20)
LESS = Ratio(0.625, 0.59, 0.668, 0.95, 20)
MORE = Ratio(1.5, 1.25, 1.75, 0.95, 20)
UNBOUNDED = Ratio(0.625, 0.0, float("inf"), 0.95, 3)


def shown(*results, pairs=20):
    scenario = ScenarioResult("/products", 500, {result.metric.key: result for result in results})
    comparison = Comparison(VARIANT, VARIANT, Design(pairs=pairs), 96.4, (scenario,), ())
    console = Console(file=io.StringIO(), width=80)
    console.print(table(comparison))
    return [line.rstrip() for line in console.file.getvalue().replace("\N{MINUS SIGN}", "-").splitlines()]


def test_a_verdict_stands_beside_its_control():
    assert shown(
        Result(CPU, 0.048, 0.0304, LESS, EVEN, Verdict.FASTER),
        Result(THROUGHPUT, 2100.0, 3150.0, MORE, EVEN, Verdict.FASTER),
    ) == [
        "/products   500 requests a sample",
        "A/A  inconclusive  CPU per request  -0.4 % [-3.1, +2.2]     as it should be",
        "A/B  FASTER        CPU per request  -37.5 % [-41.0, -33.2]  48.0 → 30.4 ms",
        "     FASTER        throughput       +50.0 % [+25.0, +75.0]  2,100 → 3,150 /s",
        "20 pairs, 96 s",
    ]


def test_a_void_verdict_claims_nothing():
    lines = shown(Result(CPU, 0.048, 0.030, LESS, MORE, Verdict.VOID))
    assert " ".join(lines[1].split()) == "A/A DIFFERENT CPU per request +50.0 % [+25.0, +75.0] from itself"
    assert lines[2].split()[:6] == ["A/B", "void", "CPU", "per", "request", "withheld"]
    assert "37.5" not in "".join(lines)
    assert lines[4].startswith("void: the machine was too noisy")


def test_a_control_with_too_few_pairs_says_how_many_it_takes():
    lines = shown(Result(CPU, 0.048, 0.030, LESS, UNBOUNDED, Verdict.FASTER), pairs=5)
    assert "cannot tell" in lines[1]
    assert lines[1].endswith("below 6 pairs")


def test_too_few_pairs_for_any_verdict_say_how_many_it_takes():
    lines = shown(Result(CPU, 0.048, 0.030, UNBOUNDED, UNBOUNDED, Verdict.INCONCLUSIVE), pairs=3)
    assert "-37.5 % [unbounded]" in lines[2]
    assert lines[4] == "too few pairs to decide 1 scenario at 95% confidence: take at least 4"


@pytest.mark.parametrize(
    ("base", "head", "values"),
    [
        (2.5, 0.5, "2.50 → 0.50 s"),
        (0.25, 0.0005, "250 → 0.50 ms"),
        (0.000243, 0.0000121, "243 → 12.1 µs"),
    ],
)
def test_durations_are_shown_in_the_unit_of_the_longer_one(base, head, values):
    assert shown(Result(CPU, base, head, LESS, EVEN, Verdict.FASTER))[2].endswith(values)
