"""What is told of the process, the garbage collector and the event loop."""

from __future__ import annotations

import asyncio
import gc
import os
import shutil
import subprocess
import threading
import time
from pathlib import Path

import pytest

from upshift.telemetry.metrics import process as module
from upshift.telemetry.metrics.exposition import expose
from upshift.telemetry.metrics.process import ProcessMetrics
from upshift.telemetry.metrics.registry import Metrics

LINUX = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="there is no /proc")


@pytest.fixture
def metrics():
    return Metrics()


@pytest.fixture
def process(metrics):
    process = ProcessMetrics(metrics)
    yield process
    process.close()


def value_of(metrics, name, labels=()):
    for family in metrics.families():
        if family.name == name:
            return family.series[labels].values[-1]
    return None


def count_of(metrics, name, labels=()):
    family = next(family for family in metrics.families() if family.name == name)
    return sum(family.series[labels].values[:-1])


def test_processor_time_rises_with_work_and_not_with_collections(metrics, process):
    before = value_of(metrics, "process_cpu_seconds")
    started = time.process_time()
    while time.process_time() - started < 0.05:
        pass
    after = value_of(metrics, "process_cpu_seconds")
    assert after - before >= 0.05
    assert after <= time.process_time()


@LINUX
def test_memory_is_what_the_kernel_says(metrics, process):
    told = int(Path("/proc/self/statm").read_bytes().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    assert value_of(metrics, "process_resident_memory_bytes") == pytest.approx(told, rel=0.2)


@LINUX
def test_threads_are_those_of_the_kernel(metrics, process):
    before = value_of(metrics, "process_threads")
    stop = threading.Event()
    threads = [threading.Thread(target=stop.wait) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        assert value_of(metrics, "process_threads") == before + 3
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_open_files_rise_by_those_that_are_opened(metrics, process):
    before = value_of(metrics, "process_open_fds")
    pipes = [os.pipe() for _ in range(5)]
    try:
        assert value_of(metrics, "process_open_fds") == before + 10
    finally:
        for pipe in pipes:
            for end in pipe:
                os.close(end)
    assert value_of(metrics, "process_max_fds") > before


@LINUX
def test_open_files_are_listed_where_the_kernel_does_not_tell_their_number(tmp_path):
    (tmp_path / "fd").mkdir()
    told = module._open_files(tmp_path / "nowhere")
    assert told == module._open_files(Path("/proc/self"))


@LINUX
def test_the_start_is_told_by_a_process_that_is_alone(metrics, process):
    now = time.time()
    assert now - 24 * 3600 < value_of(metrics, "process_start_time_seconds") < now + 2


def test_the_start_is_not_told_where_several_are_added_up(metrics):
    process = ProcessMetrics(metrics, is_alone=False)
    assert value_of(metrics, "process_start_time_seconds") is None
    assert value_of(metrics, "server_processes") == 1
    process.close()


def test_what_the_system_does_not_tell_is_left_out(metrics, tmp_path):
    process = ProcessMetrics(metrics, proc=str(tmp_path / "none"))
    names = {family.name for family in metrics.families()}
    process.close()
    assert names.isdisjoint({"process_resident_memory_bytes", "process_start_time_seconds"})
    assert {"process_cpu_seconds", "process_threads", "process_open_fds", "process_max_fds"} <= names


@LINUX
def test_a_command_with_spaces_and_brackets_in_its_name_is_read_right(tmp_path):
    proc = tmp_path / "self"
    proc.mkdir()
    fields = ["S", *map(str, range(4, 53))]
    (proc / "stat").write_text(f"7 (a) b (c d) {' '.join(fields)}\n")
    readings = module._readings(proc)
    assert readings["process_threads"] == 20
    assert readings["process_resident_memory_bytes"] == 24 * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_tells_its_own_processor_time_only(metrics, process):
    value_of(metrics, "process_cpu_seconds")
    before = value_of(metrics, "process_cpu_seconds")
    child = os.fork()
    if child == 0:
        added = value_of(metrics, "process_cpu_seconds") - before
        os._exit(0 if 0 <= added <= time.process_time() else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0


class TestCollector:
    def test_a_collection_is_timed_by_its_generation(self, metrics, process):
        name = "python_gc_duration_seconds"
        gc.disable()
        try:
            before = [count_of(metrics, name, (generation,)) for generation in "012"]
            gc.collect(2)
            gc.collect(0)
            after = [count_of(metrics, name, (generation,)) for generation in "012"]
        finally:
            gc.enable()
        assert [one - other for one, other in zip(after, before, strict=True)] == [1, 0, 1]
        assert value_of(metrics, name, ("2",)) > 0

    def test_nothing_is_left_with_the_collector(self):
        before = list(gc.callbacks)
        first, second = ProcessMetrics(Metrics()), ProcessMetrics(Metrics())
        first.close()
        assert gc.callbacks == [*before, second._collecting]
        second.close()
        second.close()
        assert gc.callbacks == before

    def test_a_collection_under_way_when_it_begins_is_not_counted(self, metrics, process):
        process._pause_started = 0.0
        process._collecting("stop", {"generation": 0})
        assert value_of(metrics, "python_gc_duration_seconds", ("0",)) >= 0

    def test_a_collection_while_a_series_is_made_does_not_lock_up(self, metrics, process):
        family = metrics.counter("things", "Things", labels={"name": 1_000})
        threshold = gc.get_threshold()
        gc.set_threshold(1)
        try:
            for number in range(500):
                family.add(1, name=str(number))
                metrics.series()
        finally:
            gc.set_threshold(*threshold)
        assert len(family.series) == 500


class TestLoop:
    NAME = "python_event_loop_lag_seconds"

    @pytest.fixture(autouse=True)
    def _often(self, monkeypatch):
        monkeypatch.setattr(module, "LAG_SECONDS", 0.02)

    async def until(self, metrics, count):
        async with asyncio.timeout(20):
            while count_of(metrics, self.NAME) < count:  # noqa: ASYNC110 - there is no event for it
                await asyncio.sleep(0.01)

    async def test_a_loop_is_asked_again_and_again(self, metrics, process):
        process.watch(asyncio.get_running_loop())
        await self.until(metrics, 3)

    async def test_a_callback_that_blocks_the_loop_is_seen(self, metrics, process):
        process.watch(asyncio.get_running_loop())
        await self.until(metrics, 1)
        before = value_of(metrics, self.NAME)
        time.sleep(0.3)  # noqa: ASYNC251 - to block the loop is the test
        await self.until(metrics, 2)
        assert value_of(metrics, self.NAME) - before >= 0.2

    async def test_watching_twice_asks_once(self, metrics, process):
        loop = asyncio.get_running_loop()
        timers = []
        call_later = loop.call_later
        loop.call_later = lambda *arguments: timers.append(arguments) or call_later(*arguments)
        process.watch(loop)
        process.watch(loop)
        assert len(timers) == 1

    async def test_it_leaves_no_task_and_after_closing_no_timer(self, metrics, process):
        process.watch(asyncio.get_running_loop())
        assert asyncio.all_tasks() == {asyncio.current_task()}
        process.close()
        seen = count_of(metrics, self.NAME)
        loop = asyncio.get_running_loop()
        await asyncio.sleep(0.1)
        assert count_of(metrics, self.NAME) == seen
        assert not [handle for handle in loop._scheduled if "ring" in repr(handle)]

    def test_another_loop_takes_the_place_of_one_that_is_closed(self, metrics, process):
        async def watched():
            process.watch(asyncio.get_running_loop())
            await self.until(metrics, count_of(metrics, self.NAME) + 1)

        asyncio.run(watched())
        asyncio.run(watched())

    async def test_a_closed_one_watches_no_more(self, metrics, process):
        process.close()
        process.watch(asyncio.get_running_loop())
        assert process._loop is None


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_prometheus_has_nothing_to_say_against_them(metrics, process):
    page = expose(metrics).body
    checked = subprocess.run(["promtool", "check", "metrics"], input=page, capture_output=True, check=False)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")
