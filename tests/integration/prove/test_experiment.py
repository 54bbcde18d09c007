"""Two real servers are compared; whatever makes the comparison void ends it with the reason."""

import asyncio
import signal
import subprocess
import sys
from dataclasses import replace

import pytest

from upshift.errors import ProofError
from upshift.load import Request
from upshift.prove import Arm, Design, Scenario, Variant, Verdict, compare, compare_async, serve

PATH = [Scenario("/", [Request(path="/")])]
SMALL = Design(pairs=1, requests=20, warmup=5, rounds=2, connections=2)


def test_a_head_that_needs_many_times_the_cpu_is_slower(tiny):
    comparison = compare(tiny("base"), tiny("head", work=100_000), PATH, replace(SMALL, pairs=4))
    result = comparison.scenarios[0].results["cpu_per_request"]
    assert (result.verdict, comparison.verdict) == (Verdict.SLOWER, Verdict.SLOWER)
    assert result.ratio.low > 2
    assert result.head > result.base > 0


async def test_each_block_has_a_sample_of_every_scenario_from_both_base_servers_and_the_head(tiny, pids):
    scenarios = [
        Scenario("one", [Request(path="/1")]),
        Scenario("two", [Request(path="/2"), Request(path="/3")]),
    ]
    design = Design(pairs=2, requests=20, warmup=0, rounds=3, connections=2)
    comparison = await compare_async(tiny("base", pids=pids), tiny("head", pids=pids), scenarios, design)
    taken = {(sample.scenario, sample.block, sample.arm) for sample in comparison.samples}
    assert taken == {(name, block, arm) for name in ("one", "two") for block in (0, 1) for arm in Arm}
    assert len(comparison.samples) == 12
    assert {sample.requests for sample in comparison.samples} == {20}  # in rounds of 6, 7 and 7
    assert all(sample.cpu_seconds > 0 and 0 < sample.p50 <= sample.p95 for sample in comparison.samples)
    assert [result.name for result in comparison.scenarios] == ["one", "two"]
    assert len(pids.all()) == 2 + 2 * 3  # each variant is tried once, then every sample is a process
    assert not pids.running()


async def test_the_slower_variant_decides_how_many_requests_both_are_sent(tiny):
    design = Design(
        pairs=1, requests=1_000, min_requests=4, budget_seconds=0.3, warmup=0, rounds=1, connections=2
    )
    comparison = await compare_async(tiny("base"), tiny("head", delay=0.05), PATH, design)
    assert {sample.requests for sample in comparison.samples} == {comparison.scenarios[0].requests}
    assert 4 <= comparison.scenarios[0].requests < 50


async def test_the_minimum_is_sent_however_long_it_takes(tiny):
    design = Design(
        pairs=1, requests=1_000, min_requests=6, budget_seconds=0.01, warmup=0, rounds=1, connections=2
    )
    comparison = await compare_async(tiny("base", delay=0.02), tiny("head", delay=0.02), PATH, design)
    assert comparison.scenarios[0].requests == 6


async def test_cpu_spent_in_a_process_that_is_counted_as_well_is_the_requests(tiny):
    async with serve(tiny("database", work=100_000)) as database:
        asks_it = tiny(upstream=database.url.rpartition(":")[2])
        own = await compare_async(asks_it, asks_it, PATH, SMALL)
        counting = replace(SMALL, count_cpu_of=[database.pid])
        with_database = await compare_async(asks_it, asks_it, PATH, counting)
    cost = [found.scenarios[0].results["cpu_per_request"].head for found in (own, with_database)]
    assert cost[1] > 2 * cost[0]


async def test_rounds_together_send_each_request_in_its_turn(tiny, tmp_path):
    requests = [Request(path=f"/{number}") for number in range(10)]
    design = Design(pairs=1, requests=10, min_requests=10, warmup=0, rounds=3, connections=1)
    head = tiny("head", paths=tmp_path / "paths")
    await compare_async(tiny("base"), head, [Scenario("ten", requests)], design)
    tried_and_measured = (tmp_path / "paths").read_text().split()
    assert tried_and_measured == [request.path for request in requests] * 2


async def test_progress_goes_from_nothing_to_all(tiny):
    steps = []
    await compare_async(tiny(), tiny("head"), PATH, SMALL, on_progress=lambda *step: steps.append(step))
    assert [(done, total) for done, total, _ in steps] == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert [message for _, _, message in steps] == ["trying base", "trying head", "pair 1 of 1: /", "done"]


async def test_an_asgi_server_of_its_own_kind_serves_as_well(tmp_path):
    (tmp_path / "app.py").write_text(
        "async def app(scope, receive, send):\n"
        "    assert scope['type'] == 'http'\n"
        "    await send({'type': 'http.response.start', 'status': 200, 'headers': []})\n"
        "    await send({'type': 'http.response.body', 'body': b'hello'})\n"
    )
    command = (sys.executable, "-m", "uvicorn", "app:app", "--port={port}", "--lifespan=off")
    variant = Variant("base", command, cwd=tmp_path)
    comparison = await compare_async(variant, variant, PATH, SMALL)
    assert comparison.verdict is Verdict.INCONCLUSIVE  # one pair decides nothing


class TestVoid:
    async def run(self, base, head, scenarios=PATH, design=SMALL):
        with pytest.raises(ProofError) as caught:
            await compare_async(base, head, scenarios, design)
        return str(caught.value)

    async def test_a_variant_that_does_not_start(self, tiny):
        broken = Variant("head", (sys.executable, "-c", "raise SystemExit('no database at {port}')"))
        assert "no database at" in await self.run(tiny(), broken)

    async def test_a_variant_that_answers_errors(self, tiny):
        message = await self.run(tiny(), tiny("head", status=500, say="division by zero"))
        assert "head failed 5 of 5 requests of scenario / (http 500: 5)" in message
        assert "    division by zero" in message

    async def test_a_variant_that_dies_under_load(self, tiny, pids):
        message = await self.run(tiny(pids=pids), tiny("head", die_after=12, pids=pids))
        assert message.startswith("head ")
        assert "(exit status 3)" in message
        assert "    out of cheese" in message
        assert not pids.running()

    async def test_a_variant_that_hangs(self, tiny):
        design = Design(pairs=1, requests=4, warmup=0, connections=2, timeout_seconds=0.3)
        message = await self.run(tiny(), tiny("head", delay=30), design=design)
        assert "head failed 4 of 4 requests of scenario / (timeout: 4)" in message

    async def test_a_process_to_count_that_does_not_run(self, tiny):
        async with serve(tiny()) as ended:
            pass
        design = Design(pairs=1, requests=4, count_cpu_of=[ended.pid])
        message = await self.run(tiny(), tiny(), design=design)
        assert f"process {ended.pid}, whose CPU time is to be counted, does not run" in message

    @pytest.mark.parametrize(
        ("scenarios", "message"),
        [
            ([], "there is nothing to compare"),
            ([Scenario("/", [])], "the scenario / has no requests"),
            (PATH * 2, "two scenarios have the same name: /, /"),
        ],
    )
    async def test_nothing_to_ask(self, tiny, scenarios, message):
        assert message in await self.run(tiny(), tiny(), scenarios)


class TestInterrupted:
    async def test_by_cancellation_it_stops_all_servers(self, tiny, pids):
        variant = tiny(delay=0.05, pids=pids)
        comparing = asyncio.create_task(compare_async(variant, variant, PATH, Design(pairs=50, requests=8)))
        await asyncio.to_thread(pids.wait_for, 4)
        comparing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await comparing
        pids.wait_until_gone()

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
    def test_by_a_signal_it_leaves_no_process(self, tiny, pids, number):
        variant = tiny(delay=0.05, pids=pids)
        code = (
            "from upshift.load import Request\nfrom upshift.prove import Design, Scenario, Variant, compare\n"
            f"variant = Variant('base', {variant.argv!r})\n"
            "compare(variant, variant, [Scenario('/', [Request(path='/')])], Design(pairs=50, requests=8))"
        )
        with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True) as owner:
            pids.wait_for(4, by=owner)
            owner.send_signal(number)
            _, errors = owner.communicate(timeout=20)
            assert owner.returncode == -number
        assert ("KeyboardInterrupt" in errors) == (number == signal.SIGINT)
        pids.wait_until_gone()
