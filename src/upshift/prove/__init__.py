"""Prove: shows whether one variant of a server is faster than another, and how sure we may be.

Flows in: two `Variant`s of a server command, the `Scenario`s to send them, and a `Design`.
Flows out: a `Comparison`: for each scenario CPU per request, latency and throughput of both, their ratios
with intervals, and a verdict with an A/A run beside it.

The samples are taken in `experiment` (from processes that `server` starts and `cpu` reads) and judged in
`comparison` (by the methods of `statistics`).
"""

from upshift.prove.comparison import METRICS, Arm, Comparison, Metric, Result, Sample, ScenarioResult
from upshift.prove.cpu import cpu_seconds
from upshift.prove.design import Design, Scenario
from upshift.prove.experiment import compare, compare_async
from upshift.prove.server import Server, Variant, serve
from upshift.prove.statistics import Ratio, Verdict, blocked_ratio, judge
from upshift.prove.table import table

__all__ = [
    "METRICS",
    "Arm",
    "Comparison",
    "Design",
    "Metric",
    "Ratio",
    "Result",
    "Sample",
    "Scenario",
    "ScenarioResult",
    "Server",
    "Variant",
    "Verdict",
    "blocked_ratio",
    "compare",
    "compare_async",
    "cpu_seconds",
    "judge",
    "serve",
    "table",
]
