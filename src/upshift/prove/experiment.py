"""Takes the samples of a comparison: fresh processes, side by side, asked in turn at random.

Nothing but the program may make a difference between two samples, so:

- each sample is a process of its own, because where the linker, the allocator and the hash seed put things
  lasts as long as a process (Mytkowicz et al., "Producing Wrong Data Without Doing Anything Obviously
  Wrong!", ASPLOS 2009; Kalibera & Jones, "Rigorous Benchmarking in Reasonable Time", ISMM 2013);
- the processes of a block live side by side and are asked in short rounds, because machines change their
  speed from second to second: on a shared host the CPU time of one request was seen to jump between 140 and
  250 µs. With one process after the other the log ratio of two equal servers had a standard deviation of
  0.31 there, with five rounds 0.04 (eight blocks each);
- only one of them is asked at a time, because servers under load at the same time slow each other down;
- the order within each round is drawn at random, because what is periodic on the machine would fall in step
  with a fixed one, and because the exact intervals of `statistics` rest on it.
"""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import AsyncExitStack, asynccontextmanager
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

from upshift.errors import LoadError, MissingExtraError, ProofError
from upshift.load import ClosedPlan, run_async
from upshift.prove.comparison import Arm, Comparison, Sample, evaluate
from upshift.prove.cpu import cpu_seconds
from upshift.prove.design import Design, Scenario
from upshift.prove.server import Server, serve

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from upshift.load import Report, Request
    from upshift.prove.server import Variant

    Progress = Callable[[int, int, str], None]

SETTLE_SECONDS = 0.01
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
    time budget. Then come the blocks, each with two fresh servers of the base and one of the head.

    Args:
        base: the variant to compare with.
        head: the variant to judge.
        scenarios: measured one after the other within each server process.
        design: how to sample and to judge; `Design()` when None.
        on_progress: called with steps done, steps in all, and what comes next.

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
    _check(scenarios)
    design = design or Design()
    started = time.perf_counter()
    bench = _Bench({Arm.BASE: base, Arm.CONTROL: base, Arm.HEAD: head}, design)
    steps = 2 + design.pairs * len(scenarios)
    done = 0

    def progress(message: str) -> None:
        nonlocal done
        if on_progress is not None:
            on_progress(done, steps, message)
        done += 1

    progress(f"trying {base.name}")
    base_fits = await bench.requests_that_fit(base, scenarios)
    progress(f"trying {head.name}")
    head_fits = await bench.requests_that_fit(head, scenarios)

    samples: list[Sample] = []
    for block in range(design.pairs):
        async with bench.servers() as servers:
            for scenario in scenarios:
                progress(f"pair {block + 1} of {design.pairs}: {scenario.name}")
                count = min(base_fits[scenario.name], head_fits[scenario.name])
                samples += await bench.samples(servers, scenario, block, count)
    progress("done")
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


class _Slice(NamedTuple):
    """One round's share of a sample."""

    report: Report
    cpu_seconds: float


class _Bench:
    """Where variants are measured: starts their servers, and asks them."""

    def __init__(self, variants: Mapping[Arm, Variant], design: Design) -> None:
        self._variants = variants
        self._design = design
        self._random = random.Random(design.seed)  # noqa: S311 - a reproducible order, not a secret

    async def requests_that_fit(self, variant: Variant, scenarios: Sequence[Scenario]) -> dict[str, int]:
        """How many requests of each scenario the variant answers within the budget."""
        design = self._design
        counts = {}
        async with self._serve(variant) as server:
            for scenario in scenarios:
                if design.warmup:
                    await self._send(server, scenario, design.warmup, seconds=design.budget_seconds)
                report = await self._send(server, scenario, design.requests, seconds=design.budget_seconds)
                counts[scenario.name] = max(report.completed, min(design.min_requests, design.requests))
        return counts

    @asynccontextmanager
    async def servers(self) -> AsyncIterator[dict[Arm, Server]]:
        """A fresh server for each arm, all running until the block is left."""
        arms = self._in_random_order()
        async with AsyncExitStack() as stack:
            # They start at the same time; none is asked before the last is ready.
            started = await asyncio.gather(
                *(stack.enter_async_context(self._serve(self._variants[arm])) for arm in arms),
                return_exceptions=True,  # a server that comes up after another has failed is stopped as well
            )
            servers = {}
            for arm, server in zip(arms, started, strict=True):
                if isinstance(server, BaseException):
                    raise server
                servers[arm] = server
            yield servers

    async def samples(
        self, servers: Mapping[Arm, Server], scenario: Scenario, block: int, count: int
    ) -> list[Sample]:
        """One sample of each arm."""
        rounds = min(self._design.rounds, count)
        slices: dict[Arm, list[_Slice]] = {arm: [] for arm in Arm}
        if self._design.warmup:
            for arm in self._in_random_order():
                await self._send(servers[arm], scenario, min(self._design.warmup, count))
        for number in range(rounds):
            first, end = count * number // rounds, count * (number + 1) // rounds
            part = Scenario(scenario.name, _rotated(scenario.requests, first))
            for arm in self._in_random_order():
                slices[arm].append(await self._slice(servers[arm], part, end - first, number))
        return [_sample(scenario.name, block, arm, slices[arm]) for arm in Arm]

    async def _slice(self, server: Server, scenario: Scenario, count: int, number: int) -> _Slice:
        counted = [server.pid, *self._design.count_cpu_of]
        before = cpu_seconds(counted)
        report = await self._send(server, scenario, count, seed=number)
        await asyncio.sleep(SETTLE_SECONDS)
        return _Slice(report, cpu_seconds(counted) - before)

    async def _send(
        self,
        server: Server,
        scenario: Scenario,
        count: int,
        *,
        seconds: float | None = None,
        seed: int = 0,
    ) -> Report:
        """Send so many requests, or as many as the seconds allow, and demand that each is answered well."""
        plan = ClosedPlan(
            connections=min(self._design.connections, count),
            count=count,
            seconds=seconds,
            timeout=self._design.timeout_seconds,
            seed=seed,
        )
        try:
            report = await server.alive_during(run_async(server.url, plan, scenario.requests))
        except LoadError as error:
            raise await server.failure(
                f"could not be asked for scenario {scenario.name} ({error})"
            ) from error
        if report.errors:
            kinds = ", ".join(f"{kind}: {times}" for kind, times in report.errors.items())
            raise await server.failure(
                f"failed {sum(report.errors.values())} of {report.requests} requests of scenario "
                f"{scenario.name} ({kinds})"
            )
        return report

    def _serve(self, variant: Variant) -> AbstractAsyncContextManager[Server]:
        return serve(variant, ready_path=self._design.ready_path, start_seconds=self._design.start_seconds)

    def _in_random_order(self) -> list[Arm]:
        return self._random.sample(list(Arm), k=len(Arm))


def _rotated(requests: Sequence[Request], start: int) -> tuple[Request, ...]:
    """The requests in turn from the `start`-th on, so that a round goes on where the last one ended."""
    start %= len(requests)
    return (*requests[start:], *requests[:start])


def _sample(scenario: str, block: int, arm: Arm, slices: Sequence[_Slice]) -> Sample:
    latencies = [part.report.latency for part in slices if part.report.latency is not None]
    return Sample(
        scenario=scenario,
        block=block,
        arm=arm,
        requests=sum(part.report.completed for part in slices),
        seconds=sum(part.report.seconds for part in slices),
        cpu_seconds=sum(part.cpu_seconds for part in slices),
        p50=median(latency.p50 for latency in latencies),
        p95=median(latency.p95 for latency in latencies),
    )


def _check(scenarios: Sequence[Scenario]) -> None:
    names = [scenario.name for scenario in scenarios]
    if not names:
        raise ProofError("there is nothing to compare: give at least one scenario")
    if len(set(names)) < len(names):
        raise ProofError(f"two scenarios have the same name: {', '.join(sorted(names))}")
    for scenario in scenarios:
        if not scenario.requests:
            raise ProofError(f"the scenario {scenario.name} has no requests")
