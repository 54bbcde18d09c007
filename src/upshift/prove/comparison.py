"""What a comparison found: samples, and the verdicts drawn from them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

from upshift.prove.statistics import Ratio, Verdict, blocked_ratio, blocks_needed, judge

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from upshift.prove.design import Design
    from upshift.prove.server import Variant


class Arm(StrEnum):
    """What a sample measures. Base and control are the same program: they are the A/A run."""

    BASE = "base"
    CONTROL = "control"
    HEAD = "head"


class Metric(NamedTuple):
    """A measured quantity.

    Attributes:
        key: its name in code and in JSON; an attribute of `Sample`.
        label: its name in reports.
        unit: "s" or "1/s".
        more_is_better: whether larger values are faster.
        judged: whether it takes part in the comparison's verdict, or only has one of its own.
    """

    key: str
    label: str
    unit: str
    more_is_better: bool = False
    judged: bool = False


METRICS = (
    Metric("cpu_per_request", "CPU per request", "s", judged=True),
    Metric("p50", "p50 latency", "s", judged=True),
    Metric("p95", "p95 latency", "s"),
    Metric("requests_per_second", "throughput", "1/s", more_is_better=True),
)


@dataclass(frozen=True, slots=True)
class Sample:
    """One scenario in one fresh process.

    Attributes:
        scenario: its name.
        block: number of the block, from 0.
        arm: which variant it was, and whether as the control.
        requests: how many were sent, in all rounds; all were answered with a status below 400.
        seconds: how long they took together.
        cpu_seconds: CPU time of the server's and the counted processes meanwhile, in seconds.
        p50: median latency in seconds; the median over the rounds.
        p95: 95th percentile of the latency in seconds; the median over the rounds.
    """

    scenario: str
    block: int
    arm: Arm
    requests: int
    seconds: float
    cpu_seconds: float
    p50: float
    p95: float

    @property
    def cpu_per_request(self) -> float:
        """CPU time per request in seconds."""
        return self.cpu_seconds / self.requests

    @property
    def requests_per_second(self) -> float:
        """Throughput with the connections of the design, all kept busy."""
        return self.requests / self.seconds


@dataclass(frozen=True, slots=True)
class Result:
    """One metric of one scenario.

    Attributes:
        metric: what was measured.
        base: median over the base's samples, in the metric's unit.
        head: median over the head's samples.
        ratio: head over base, the A/B.
        control: base over itself, the A/A.
        verdict: faster, slower or inconclusive; void if the A/A found a difference where there is none.
    """

    metric: Metric
    base: float
    head: float
    ratio: Ratio
    control: Ratio
    verdict: Verdict

    def to_dict(self) -> dict[str, Any]:
        """The result as plain values, ready for JSON."""
        return {
            "label": self.metric.label,
            "unit": self.metric.unit,
            "verdict": self.verdict.value,
            "base": self.base,
            "head": self.head,
            "ratio": self.ratio.to_dict(),
            "control": self.control.to_dict(),
        }


@dataclass(frozen=True, slots=True)
class ScenarioResult:
    """All metrics of one scenario.

    Attributes:
        name: the scenario's.
        requests: how many each sample sent.
        results: one for each of `METRICS`, by its key.
    """

    name: str
    requests: int
    results: Mapping[str, Result]


@dataclass(frozen=True, slots=True)
class Comparison:
    """A head compared with its base.

    Attributes:
        base: the variant compared with.
        head: the variant judged.
        design: how the samples were taken and judged.
        seconds: how long it all took.
        scenarios: the results, in the order asked for.
        samples: what they rest on, in the order in which they were taken.
    """

    base: Variant
    head: Variant
    design: Design
    seconds: float
    scenarios: tuple[ScenarioResult, ...]
    samples: tuple[Sample, ...]

    @property
    def verdict(self) -> Verdict:
        """The gravest verdict on CPU per request and p50 in any scenario: void, slower, faster, none."""
        found = {
            result.verdict
            for scenario in self.scenarios
            for result in scenario.results.values()
            if result.metric.judged
        }
        gravest_first = (Verdict.VOID, Verdict.SLOWER, Verdict.FASTER)
        return next((verdict for verdict in gravest_first if verdict in found), Verdict.INCONCLUSIVE)

    @property
    def pairs_needed(self) -> int:
        """The fewest pairs with which this comparison can come to any verdict."""
        return blocks_needed(2, _confidence(self.design, len(self.scenarios)))

    @property
    def control_pairs_needed(self) -> int:
        """The fewest pairs with which its A/A can find a difference."""
        return blocks_needed(1, _confidence(self.design, len(self.scenarios)))

    def to_dict(self) -> dict[str, Any]:
        """The comparison as plain values, ready for JSON; durations in seconds."""
        return {
            "verdict": self.verdict.value,
            "base": str(self.base),
            "head": str(self.head),
            "seconds": self.seconds,
            "design": asdict(self.design),
            "scenarios": [
                {
                    "name": scenario.name,
                    "requests": scenario.requests,
                    "results": {key: result.to_dict() for key, result in scenario.results.items()},
                }
                for scenario in self.scenarios
            ],
            "samples": [asdict(sample) for sample in self.samples],
        }


def evaluate(scenario: str, samples: Sequence[Sample], design: Design, scenarios: int) -> ScenarioResult:
    """Judge the samples of one scenario, which is one of so many compared together.

    The two base samples of a block stand against its head sample, and against each other. So equal noise
    makes the A/B and the A/A uncorrelated, and the gate costs the verdict nothing: the base is known better
    for it. The confidence is divided among the scenarios (Bonferroni), so that a comparison of many does not
    find a difference somewhere by chance.
    """
    return ScenarioResult(
        name=scenario,
        requests=samples[0].requests,
        results={metric.key: _result(metric, samples, design, scenarios) for metric in METRICS},
    )


def _result(metric: Metric, samples: Sequence[Sample], design: Design, scenarios: int) -> Result:
    base, control, head = (
        [getattr(sample, metric.key) for sample in sorted(samples, key=_block) if sample.arm is arm]
        for arm in (Arm.BASE, Arm.CONTROL, Arm.HEAD)
    )
    confidence = _confidence(design, scenarios)
    ratio = blocked_ratio(
        list(zip(base, control, strict=True)), head, confidence=confidence, seed=design.seed
    )
    control_ratio = blocked_ratio(
        [[value] for value in base], control, confidence=confidence, seed=design.seed
    )
    sound = judge(control_ratio, margin=design.margin) is Verdict.INCONCLUSIVE
    return Result(
        metric=metric,
        base=median(base + control),
        head=median(head),
        ratio=ratio,
        control=control_ratio,
        verdict=judge(ratio, margin=design.margin, more_is_better=metric.more_is_better)
        if sound
        else Verdict.VOID,
    )


def _confidence(design: Design, scenarios: int) -> float:
    return 1 - (1 - design.confidence) / scenarios


def _block(sample: Sample) -> int:
    return sample.block
