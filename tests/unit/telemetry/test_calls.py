"""Calls of functions that may hang: sync and async, in a thread and in the loop."""

import asyncio
import functools
import threading
from contextvars import ContextVar

import pytest

from upshift.telemetry.calls import call, in_thread, is_async


class Callable:
    async def __call__(self):
        return "an object"


async def coroutine_function(word="async"):
    return word


@pytest.mark.parametrize(
    ("function", "returned"),
    [
        (lambda: "sync", "sync"),
        (coroutine_function, "async"),
        (functools.partial(coroutine_function, "partial"), "partial"),
        (Callable(), "an object"),
        (lambda: coroutine_function("returned by a sync one"), "returned by a sync one"),
    ],
    ids=["sync", "async", "partial", "object", "sync that returns a coroutine"],
)
async def test_whatever_can_be_called_is_called(function, returned):
    assert await call(function) == returned


def test_only_what_gives_a_coroutine_is_async():
    assert [is_async(each) for each in (coroutine_function, Callable(), print)] == [
        True,
        True,
        False,
    ]


async def test_a_sync_function_runs_in_a_thread_in_the_caller_s_context():
    word = ContextVar("word")
    word.set("hello")
    assert await call(lambda: (word.get(), threading.current_thread() is threading.main_thread())) == (
        "hello",
        False,
    )


async def test_what_the_thread_raises_is_raised_to_who_waits():
    with pytest.raises(ZeroDivisionError):
        await in_thread(lambda: 1 / 0)


@pytest.mark.parametrize("error", [StopIteration, SystemExit, KeyboardInterrupt])
async def test_what_would_end_the_event_loop_is_told_as_a_fault(error):
    def fail():
        raise error

    with pytest.raises(RuntimeError, match=error.__name__):
        await in_thread(fail)


async def test_who_is_cancelled_does_not_wait_for_the_thread():
    release = threading.Event()
    waiting = asyncio.create_task(in_thread(release.wait))
    await asyncio.sleep(0.01)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    release.set()  # the late result finds nobody, and does no harm
    await asyncio.sleep(0.05)


def test_a_thread_that_ends_after_its_loop_does_no_harm():
    release, ended = threading.Event(), threading.Event()

    def work():
        release.wait(10)
        ended.set()

    async def give_up():
        asyncio.create_task(in_thread(work))  # noqa: RUF006 - it is to be left behind
        await asyncio.sleep(0.01)

    asyncio.run(give_up())
    release.set()
    assert ended.wait(10)


async def test_threads_that_hang_leave_the_loop_s_executor_free():
    release = threading.Event()
    hanging = [asyncio.create_task(in_thread(release.wait)) for _ in range(50)]
    await asyncio.sleep(0.01)
    assert await asyncio.wait_for(asyncio.to_thread(lambda: "free"), 10) == "free"
    release.set()
    assert await asyncio.gather(*hanging) == [True] * 50
