"""Samples become verdicts: the A/A stands beside each, and withholds it when it finds a difference."""

import json

import pytest

from upshift.prove import METRICS, Arm, Comparison, Design, Sample, Variant, Verdict
from upshift.prove.comparison import evaluate

BASE = Variant("base", ("serve", "{port}"))
HEAD = Variant("head", ("serve", "--fast", "{port}"))


def samples(arms, *, pairs=20, scenario="/", **fixed):
    """Samples whose metrics are all proportional to a factor, given for each arm; no noise."""
    return [
        Sample(
            scenario=scenario,
            block=block,
            arm=arm,
            requests=100,
            seconds=fixed.get("seconds", factor),
            cpu_seconds=fixed.get("cpu_seconds", factor / 2),
            p50=fixed.get("p50", factor / 10),
            p95=fixed.get("p95", factor / 5),
        )
        for block in range(pairs)
        for arm, factor in zip(Arm, arms, strict=True)
    ]


def compared(*scenarios, design=None):
    design = design or Design()
    results = tuple(
        evaluate(found[0].scenario, found, design, scenarios=len(scenarios)) for found in scenarios
    )
    return Comparison(
        BASE, HEAD, design, 96.0, results, tuple(sample for found in scenarios for sample in found)
    )


def verdict_of(result):
    return {key: found.verdict for key, found in result.results.items()}


def test_every_metric_has_a_value_for_both_a_ratio_and_a_verdict():
    result = evaluate("/", samples([1.0, 1.0, 0.5]), Design(), scenarios=1)
    assert list(result.results) == [metric.key for metric in METRICS]
    cpu, throughput = result.results["cpu_per_request"], result.results["requests_per_second"]
    assert (cpu.base, cpu.head, cpu.ratio.value) == pytest.approx((0.005, 0.0025, 0.5))
    assert (throughput.base, throughput.head, throughput.ratio.value) == pytest.approx((100, 200, 2))
    assert set(verdict_of(result).values()) == {Verdict.FASTER}


def test_samples_may_come_in_any_order():
    found = samples([1.0, 1.1, 0.5], pairs=8)
    assert evaluate("/", found, Design(), scenarios=1) == evaluate("/", found[::-1], Design(), scenarios=1)


def test_equal_variants_are_inconclusive():
    assert compared(samples([1.0, 1.0, 1.0])).verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize("control", [1.5, 0.5])
def test_a_verdict_is_withheld_when_the_base_differs_from_itself(control):
    comparison = compared(samples([1.0, control, 5.0]))
    assert set(verdict_of(comparison.scenarios[0]).values()) == {Verdict.VOID}
    assert comparison.verdict is Verdict.VOID


def test_only_the_metric_that_differs_from_itself_is_withheld():
    comparison = compared(samples([1.0, 1.5, 3.0], cpu_seconds=1.0, p50=1.0, seconds=1.0))
    assert verdict_of(comparison.scenarios[0]) == {
        "cpu_per_request": Verdict.INCONCLUSIVE,
        "p50": Verdict.INCONCLUSIVE,
        "p95": Verdict.VOID,
        "requests_per_second": Verdict.INCONCLUSIVE,
    }
    assert comparison.verdict is Verdict.INCONCLUSIVE  # tails are shown, not judged


def test_a_head_that_only_waits_longer_is_slower():
    assert compared(samples([1.0, 1.0, 3.0], cpu_seconds=1.0)).verdict is Verdict.SLOWER


@pytest.mark.parametrize(
    ("factors", "verdict"),
    [
        ([[1, 1, 0.5], [1, 1, 1]], Verdict.FASTER),
        ([[1, 1, 0.5], [1, 1, 2]], Verdict.SLOWER),
        ([[1, 1, 2], [1, 2, 1]], Verdict.VOID),
    ],
)
def test_the_gravest_verdict_of_any_scenario_is_the_comparisons(factors, verdict):
    found = [samples(arms, scenario=f"/{number}") for number, arms in enumerate(factors)]
    assert compared(*found).verdict is verdict


def test_more_scenarios_ask_for_more_confidence_in_each():
    one, two = (evaluate("/", samples([1, 1, 1]), Design(), scenarios=count) for count in (1, 2))
    assert one.results["p50"].ratio.confidence == pytest.approx(0.95)
    assert two.results["p50"].ratio.confidence == pytest.approx(0.975)


def test_four_pairs_decide_one_scenario_but_not_five():
    four = [samples([1, 1, 9], pairs=4, scenario=f"/{number}") for number in range(5)]
    assert compared(four[0], design=Design(pairs=4)).verdict is Verdict.SLOWER
    assert compared(*four, design=Design(pairs=4)).verdict is Verdict.INCONCLUSIVE
    assert compared(*four, design=Design(pairs=4)).pairs_needed == 5


def test_it_is_json_with_all_samples():
    plain = json.loads(json.dumps(compared(samples([1, 1, 0.5], pairs=4)).to_dict()))
    assert plain["verdict"] == "faster"
    assert plain["base"] == "serve '{port}'"
    assert plain["design"]["pairs"] == 20
    assert plain["scenarios"][0]["results"]["cpu_per_request"]["ratio"]["value"] == pytest.approx(0.5)
    assert (
        plain["scenarios"][0]["results"]["cpu_per_request"]["control"]["low"] is None
    )  # too few for the A/A
    assert len(plain["samples"]) == 12
