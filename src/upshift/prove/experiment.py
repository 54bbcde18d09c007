"""Takes the samples of a comparison: fresh processes, in blocks of random order.

The order of everything is chosen so that nothing but the program can make a difference: each sample is a
process of its own, because where the linker, the allocator and the hash seed put things lasts as long as a
process; the processes alternate, because machines drift; and they alternate at random, because what is
periodic on the machine would fall in step with any fixed order (Kalibera & Jones, "Rigorous Benchmarking
in Reasonable Time", ISMM 2013; Mytkowicz et al., "Producing Wrong Data Without Doing Anything Obviously
Wrong!", ASPLOS 2009).
"""

from __future__ import annotations

import asyncio
import random
import time
from typing import TYPE_CHECKING

from upshift.errors import MissingExtraError, ProofError
from upshift.load import ClosedPlan, run_async
from upshift.prove.comparison import Arm, Comparison, Sample, evaluate
from upshift.prove.cpu import cpu_seconds
from upshift.prove.design import Design
from upshift.prove.server import Server, serve

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from upshift.load import Report
    from upshift.prove.design import Scenario
    from upshift.prove.server import Variant

    Progress = Callable[[int, int, str], None]

SETTLE_SECONDS = 0.02
"""Pause before the CPU time is read, so that work which trails an answer is counted with its request."""


def compare(
    base: Variant,
    head: Variant,
    scenarios: Sequence[Scenario],
    design: Design | None = None,
    *,
    on_progress: Progress | None = None,
) -> Comparison:
    """Measure whether the head is faster than the base.

    Both variants are first tried once, which shows whether they work and how many requests fit into the
    time budget. Then come the blocks: the base twice and the head once, in random order.

    Args:
        base: the variant to compare with.
        head: the variant to judge.
        scenarios: measured one after the other within each server process.
        design: how to sample and to judge; `Design()` when None.
        on_progress: called with samples done, samples in all, and what comes next.

    Raises:
        ProofError: the comparison is void: a server did not start, ended, or failed to answer a request; or
            there is nothing to compare.
        MissingExtraError: uvloop or httptools is not installed.
    """
    try:
        import uvloop
    except ImportError as error:
        raise MissingExtraError("upshift.prove", "load") from error
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(compare_async(base, head, scenarios, design, on_progress=on_progress))


async def compare_async(
    base: Variant,
    head: Variant,
    scenarios: Sequence[Scenario],
    design: Design | None = None,
    *,
    on_progress: Progress | None = None,
) -> Comparison:
    """Do what `compare` does, in the running event loop. When cancelled it stops its server first."""
    design = design or Design()
    _check(scenarios)
    started = time.perf_counter()
    order = _random_order(design)
    sampler = _Sampler(scenarios, design)

    def progress(done: int, message: str) -> None:
        if on_progress is not None:
            on_progress(done, len(order) + 2, message)

    progress(0, f"trying {base.name}")
    base_fits = await sampler.requests_that_fit(base)
    progress(1, f"trying {head.name}")
    head_fits = await sampler.requests_that_fit(head)
    counts = {name: min(base_fits[name], head_fits[name]) for name in base_fits}

    samples: list[Sample] = []
    for done, (block, arm) in enumerate(order, start=2):
        progress(done, f"pair {block + 1} of {design.pairs}: {arm}")
        samples += await sampler.sample(head if arm is Arm.HEAD else base, block, arm, counts)
    progress(len(order) + 2, "done")
    return Comparison(
        base=base,
        head=head,
        design=design,
        seconds=time.perf_counter() - started,
        scenarios=tuple(
            evaluate(
                scenario.name,
                [sample for sample in samples if sample.scenario == scenario.name],
                design,
                len(scenarios),
            )
            for scenario in scenarios
        ),
        samples=tuple(samples),
    )


class _Sampler:
    """Runs all scenarios in one fresh process of a variant."""

    def __init__(self, scenarios: Sequence[Scenario], design: Design) -> None:
        self._scenarios = scenarios
        self._design = design

    async def requests_that_fit(self, variant: Variant) -> dict[str, int]:
        """How many requests of each scenario the variant answers within the budget."""
        design = self._design
        counts = {}
        async with self._serve(variant) as server:
            for scenario in self._scenarios:
                if design.warmup:
                    await self._send(server, scenario, design.warmup, design.budget_seconds)
                report = await self._send(server, scenario, design.requests, design.budget_seconds)
                counts[scenario.name] = max(report.completed, min(design.min_requests, design.requests))
        return counts

    async def sample(self, variant: Variant, block: int, arm: Arm, counts: Mapping[str, int]) -> list[Sample]:
        """One sample of each scenario."""
        async with self._serve(variant) as server:
            return [
                await self._measure(server, scenario, block, arm, counts[scenario.name])
                for scenario in self._scenarios
            ]

    async def _measure(self, server: Server, scenario: Scenario, block: int, arm: Arm, count: int) -> Sample:
        if self._design.warmup:
            await self._send(server, scenario, min(self._design.warmup, count))
        before = await self._cpu_seconds(server)
        report = await self._send(server, scenario, count)
        spent = await self._cpu_seconds(server) - before
        latency = report.latency
        assert latency is not None  # every request was answered
        return Sample(
            scenario=scenario.name,
            block=block,
            arm=arm,
            requests=report.completed,
            seconds=report.seconds,
            cpu_seconds=spent,
            p50=latency.p50,
            p95=latency.p95,
        )

    def _serve(self, variant: Variant) -> AbstractAsyncContextManager[Server]:
        return serve(variant, ready_path=self._design.ready_path, start_seconds=self._design.start_seconds)

    async def _cpu_seconds(self, server: Server) -> float:
        await asyncio.sleep(SETTLE_SECONDS)
        return cpu_seconds([server.pid, *self._design.count_cpu_of])

    async def _send(
        self, server: Server, scenario: Scenario, count: int, seconds: float | None = None
    ) -> Report:
        """Send so many requests, or as many as the seconds allow, and demand that each is answered well."""
        plan = ClosedPlan(
            connections=min(self._design.connections, count),
            count=count,
            seconds=seconds,
            timeout=self._design.timeout_seconds,
        )
        report = await server.alive_during(run_async(server.url, plan, scenario.requests))
        if report.errors:
            kinds = ", ".join(f"{kind}: {times}" for kind, times in report.errors.items())
            raise await server.failure(
                f"failed {sum(report.errors.values())} of {report.requests} requests of scenario "
                f"{scenario.name} ({kinds})"
            )
        return report


def _check(scenarios: Sequence[Scenario]) -> None:
    names = [scenario.name for scenario in scenarios]
    if not names:
        raise ProofError("there is nothing to compare: give at least one scenario")
    if len(set(names)) < len(names):
        raise ProofError(f"two scenarios have the same name: {', '.join(sorted(names))}")
    for scenario in scenarios:
        if not scenario.requests:
            raise ProofError(f"the scenario {scenario.name} has no requests")


def _random_order(design: Design) -> list[tuple[int, Arm]]:
    """The arms of every block, each block in an order of its own."""
    draw = random.Random(design.seed)  # noqa: S311 - a reproducible order, not a secret
    return [(block, arm) for block in range(design.pairs) for arm in draw.sample(list(Arm), k=len(Arm))]
