"""What runs beside the requests: started where it is needed, ended when it is not, and never in the way."""

from __future__ import annotations

import asyncio
import os
import threading
from contextvars import ContextVar

import pytest

from upshift.sql.pool.upkeep import Job, Upkeep


class Steps:
    """Counts its steps, and remembers where it ran."""

    def __init__(self, *, fails_at=None):
        self.count = 0
        self.threads = set()
        self.began = threading.Event()
        self._fails_at = fails_at

    def __call__(self):
        while True:
            self.count += 1
            self.threads.add(threading.current_thread().name)
            self.began.set()
            if self.count == self._fails_at:
                raise ValueError
            yield 0.001


async def until(condition):
    for _ in range(2_000):
        if condition():
            return
        await asyncio.sleep(0.002)
    raise AssertionError


async def test_a_job_of_a_synchronous_pool_runs_in_a_thread_until_it_is_stopped():
    steps = Steps()
    upkeep = Upkeep([Job("sizing", steps, in_loop=False)])
    upkeep.start()
    upkeep.start()  # it runs already
    await until(lambda: steps.count > 5)
    assert steps.threads == {"sizing"}
    ((thread, _),) = upkeep._threads.values()
    upkeep.stop()
    await asyncio.to_thread(thread.join, 5)
    assert not thread.is_alive()


async def test_a_job_of_an_asynchronous_pool_runs_in_the_event_loop():
    steps = Steps()
    upkeep = Upkeep([Job("sizing", steps, in_loop=True)])
    upkeep.start()
    upkeep.start()
    await until(lambda: steps.count > 5)
    assert steps.threads == {threading.current_thread().name}
    upkeep.stop()
    await asyncio.sleep(0.01)
    stopped_at = steps.count
    await asyncio.sleep(0.02)
    assert steps.count == stopped_at


def test_what_needs_an_event_loop_waits_for_one():
    steps = Steps()
    upkeep = Upkeep([Job("sizing", steps, in_loop=True)])
    upkeep.start()
    assert steps.count == 0

    async def serve():
        upkeep.start()
        await until(lambda: steps.count > 2)

    for _ in range(2):  # another loop, another task
        asyncio.run(serve())
    upkeep.stop()


async def test_a_job_sees_nothing_of_the_request_that_started_it():
    current = ContextVar("current", default=None)
    seen = []

    def steps():
        seen.append(current.get())
        yield 1.0

    current.set("a request")
    upkeep = Upkeep([Job("sizing", steps, in_loop=True)])
    upkeep.start()
    await until(lambda: seen)
    upkeep.stop()
    assert seen == [None]


@pytest.mark.parametrize("in_loop", [True, False])
async def test_a_job_that_fails_is_counted_and_ends_alone(in_loop, caplog):
    good, bad = Steps(), Steps(fails_at=3)
    upkeep = Upkeep([Job("bad", bad, in_loop), Job("good", good, in_loop)])
    upkeep.start()
    await until(lambda: upkeep.faults and good.count > 10)
    upkeep.stop()
    assert (upkeep.faults, bad.count) == (1, 3)
    assert "bad ended" in caplog.text


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_starts_its_own():
    steps = Steps()
    upkeep = Upkeep([Job("sizing", steps, in_loop=False)])
    upkeep.start()
    assert steps.began.wait(5)
    child = os.fork()
    if child == 0:
        steps.began = threading.Event()
        upkeep.start()
        os._exit(0 if steps.began.wait(5) else 1)
    _, status = os.waitpid(child, 0)
    upkeep.stop()
    assert os.waitstatus_to_exitcode(status) == 0
