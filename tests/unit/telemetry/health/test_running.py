"""A call that nobody has to wait for, and the checks that are made of it, under asyncio and under trio."""

import asyncio
import threading
from contextvars import ContextVar

import anyio
import pytest

from upshift.telemetry.health import Check, TypedCheck
from upshift.telemetry.health.running import Running

CURRENT = ContextVar("current", default="no request")


@pytest.fixture(params=["asyncio", "trio"])
def run(request):
    """Run a function in an event loop of the one kind or the other."""
    return lambda function, *args: anyio.run(function, *args, backend=request.param)


async def result_of(function):
    return await Running(function).result()


def make(function, timeout=5.0):
    return Check("db", TypedCheck(function), timeout=timeout, critical=True, cache_seconds=0.0)


async def outcome(check):
    await check.begin().result()
    return check.latest.status, check.latest.output or check.latest.detail


async def here():
    await anyio.lowlevel.checkpoint()
    return threading.current_thread() is threading.main_thread()


def elsewhere():
    return threading.current_thread() is threading.main_thread()


@pytest.mark.parametrize(("function", "expected"), [(here, True), (elsewhere, False)])
def test_async_functions_run_in_the_event_loop_and_others_in_a_thread(run, function, expected):
    assert run(result_of, function) is expected


def test_what_the_function_raises_is_raised_to_who_waits(run):
    async def refuse():
        raise ConnectionError("refused")

    for function, error in ((refuse, ConnectionError), (lambda: 1 / 0, ZeroDivisionError)):
        with pytest.raises(error):
            run(result_of, function)


def test_it_runs_in_an_empty_context(run):
    async def ask():
        return CURRENT.get()

    async def main():
        CURRENT.set("a request")
        return await result_of(ask), await result_of(CURRENT.get)

    assert run(main) == ("no request", "no request")


def test_who_stops_waiting_does_not_end_it(run):
    async def main():
        may_end = anyio.Event()
        running = Running(may_end.wait)
        with anyio.move_on_after(0.01):
            await running.result()
        was_over = running.is_over
        may_end.set()
        await running.result()
        return was_over, running.is_over

    assert run(main) == (False, True)


def test_cancelled_it_is_over(run):
    async def main():
        running = Running(anyio.sleep_forever)
        await anyio.wait_all_tasks_blocked()
        running.cancel()
        with pytest.raises(RuntimeError, match="cancelled"):
            await running.result()
        return running.is_over

    assert run(main)


def test_it_is_over_with_its_event_loop(run):
    async def main():
        running = Running(threading.Event().wait)
        await anyio.wait_all_tasks_blocked()
        return running

    assert run(main).is_over


def test_it_is_over_when_its_event_loop_is_closed_under_it():
    async def main():
        return Running(anyio.sleep_forever)

    loop = asyncio.new_event_loop()
    running = loop.run_until_complete(main())
    assert not running.is_over
    loop.close()
    assert running.is_over


def test_an_async_check_that_hangs_is_cancelled_at_its_timeout(run):
    ended = []

    async def hang():
        try:
            await anyio.sleep_forever()
        finally:
            ended.append(1)

    async def main():
        check = make(hang, timeout=0.02)
        return [await outcome(check) for _ in range(2)]

    assert run(main) == [("fail", "TimeoutError: no answer within 0.02 s")] * 2
    assert ended == [1, 1]


def test_a_sync_check_that_hangs_is_not_started_again_until_it_has_ended(run):
    release = threading.Event()
    starts = []

    def hang():
        starts.append(1)
        return release.wait(30)

    async def main():
        check = make(hang, timeout=0.02)
        told = [(await outcome(check))[1] for _ in range(3)]
        release.set()
        while "still running" in (last := await outcome(check))[1]:  # noqa: ASYNC110 - each look is a run
            await anyio.sleep(0.01)
        return [*(each[:28] for each in told), last]

    assert run(main) == [
        "TimeoutError: no answer with",
        "TimeoutError: still running ",
        "TimeoutError: still running ",
        ("pass", "True"),
    ]
    assert len(starts) == 2


def test_a_thousand_who_ask_at_once_run_a_check_once(run):
    calls, told = [], []

    async def count():
        calls.append(1)
        await anyio.sleep(0.01)

    async def ask(check):
        told.append(await outcome(check))

    async def main():
        check = make(count)
        async with anyio.create_task_group() as tasks:
            for _ in range(1000):
                tasks.start_soon(ask, check)

    run(main)
    assert told == [("pass", "")] * 1000
    assert len(calls) == 1


def test_a_check_works_in_event_loops_of_both_kinds_one_after_the_other():
    check = make(here)
    assert [anyio.run(outcome, check, backend=each) for each in ("asyncio", "trio", "asyncio", "trio")] == [
        ("pass", "True")
    ] * 4
