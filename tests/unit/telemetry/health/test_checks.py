"""One check: its outcomes, its timeout, and that however many ask, it runs once."""

import asyncio
import gc
import logging
import threading
from contextvars import ContextVar

import pytest

from upshift.telemetry.health import Check, TypedCheck

LOGGER = "upshift.telemetry"


def make(function, *, timeout=5.0, critical=True, cache_seconds=0.0):
    return Check("db", TypedCheck(function), timeout=timeout, critical=critical, cache_seconds=cache_seconds)


async def outcome(check):
    await check.begin().result()
    return check.latest.status, check.latest.output or check.latest.detail


async def eventually(check):
    """The outcome of the first run that begins."""
    while "still running" in (told := await outcome(check))[1]:  # noqa: ASYNC110 - each look is a run
        await asyncio.sleep(0.01)
    return told


async def nothing():
    return None


async def refuse():
    raise ConnectionError("refused by postgresql://shop:rosebud@db/shop")


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (nothing, ("pass", "")),
        (lambda: 3, ("pass", "3")),
        (lambda: False, ("pass", "False")),
        (refuse, ("fail", "ConnectionError: refused by postgresql://***@db/shop")),
        (lambda: 1 / 0, ("fail", "ZeroDivisionError: division by zero")),
    ],
    ids=["async", "detail", "only raising fails", "async fault", "sync fault"],
)
async def test_a_check_passes_unless_it_raises(function, expected):
    assert await outcome(make(function)) == expected


async def test_a_check_that_is_not_critical_only_warns():
    assert (await outcome(make(refuse, critical=False)))[0] == "warn"


async def test_before_its_first_run_it_has_not_passed():
    assert make(nothing).latest.status == "fail"


async def test_a_sync_check_that_exits_ends_nothing_but_itself():
    def leave():
        raise SystemExit(3)

    assert await outcome(make(leave)) == ("fail", "RuntimeError: the function raised SystemExit(3)")


async def test_a_check_that_is_cancelled_by_what_it_calls_fails():
    async def cancelled():
        raise asyncio.CancelledError

    assert await outcome(make(cancelled)) == (
        "fail",
        "RuntimeError: the check was cancelled by what it called",
    )


async def test_a_detail_that_cannot_be_written_fails():
    class Mute:
        def __str__(self):
            raise RuntimeError("mute")

    assert await outcome(make(Mute)) == ("fail", "RuntimeError: mute")


async def test_an_async_check_that_hangs_is_cancelled_at_its_timeout():
    ended = asyncio.Event()

    async def hang():
        try:
            await asyncio.sleep(3600)
        finally:
            ended.set()

    check = make(hang, timeout=0.02)
    assert await outcome(check) == ("fail", "TimeoutError: no answer within 0.02 s")
    await asyncio.wait_for(ended.wait(), 10)
    assert await outcome(check) == ("fail", "TimeoutError: no answer within 0.02 s")


async def test_a_sync_check_that_hangs_is_not_started_again_until_it_has_ended():
    release = threading.Event()
    starts = []

    def hang():
        starts.append(1)
        return release.wait(30)

    check = make(hang, timeout=0.02)
    assert (await outcome(check))[1] == "TimeoutError: no answer within 0.02 s"
    for _ in range(5):
        status, output = await outcome(check)
        assert status == "fail"
        assert output.startswith("TimeoutError: still running since 2")
    assert len(starts) == 1
    release.set()
    assert await eventually(check) == ("pass", "True")
    assert len(starts) == 2


async def test_an_async_check_that_will_not_be_cancelled_is_not_started_again():
    release = asyncio.Event()
    starts = []

    async def stubborn():
        starts.append(1)
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    check = make(stubborn, timeout=0.02)
    await outcome(check)
    assert "still running since" in (await outcome(check))[1]
    assert len(starts) == 1
    release.set()


async def test_a_fault_after_the_timeout_bothers_nobody(caplog):
    release = threading.Event()

    def late():
        release.wait(30)
        raise ValueError("too late")

    await outcome(check := make(late, timeout=0.02))
    release.set()
    assert await eventually(check) == ("fail", "ValueError: too late")
    gc.collect()
    assert "never retrieved" not in caplog.text


async def test_a_thousand_who_ask_at_once_run_it_once():
    calls = []

    async def count():
        calls.append(1)
        await asyncio.sleep(0.01)

    check = make(count)
    outcomes = await asyncio.gather(*(outcome(check) for _ in range(1000)))
    assert set(outcomes) == {("pass", "")}
    assert len(calls) == 1


async def test_who_stops_waiting_does_not_stop_it_for_others():
    release = asyncio.Event()
    check = make(release.wait)
    first, second = asyncio.create_task(outcome(check)), asyncio.create_task(outcome(check))
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    release.set()
    assert await second == ("pass", "True")


async def test_it_ends_though_nobody_waits_any_more():
    release = asyncio.Event()
    check = make(release.wait)
    only = asyncio.create_task(outcome(check))
    await asyncio.sleep(0)
    only.cancel()
    await asyncio.wait({only})
    release.set()
    await check.begin().result()
    assert check.latest.status == "pass"


async def test_a_result_is_fresh_for_as_long_as_was_said(monkeypatch):
    now = 100.0
    monkeypatch.setattr("upshift.telemetry.health.checks.monotonic", lambda: now)
    check = make(nothing, cache_seconds=2.0)
    assert not check.is_fresh
    await outcome(check)
    assert check.is_fresh
    now = 101.9
    assert check.is_fresh
    now = 102.0
    assert not check.is_fresh


def test_it_works_in_one_event_loop_after_the_other():
    check = make(nothing)
    assert [asyncio.run(outcome(check)) for _ in range(3)] == [("pass", "")] * 3


def test_what_hung_in_an_event_loop_that_is_gone_does_not_fail_in_the_next():
    async def hang_once():
        await asyncio.sleep(0 if hung else 3600)

    hung = []
    check = make(hang_once, timeout=3600)

    async def leave():
        check.begin()
        await asyncio.sleep(0.01)

    asyncio.run(leave())
    hung.append(1)
    assert asyncio.run(outcome(check)) == ("pass", "")


def test_it_works_in_two_event_loops_at_once():
    check = make(lambda: threading.Event().wait(0.01))
    outcomes = []

    def serve():
        outcomes.extend([asyncio.run(outcome(check)) for _ in range(10)])

    threads = [threading.Thread(target=serve) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    # While one loop runs it, the other may be told so; nothing else goes wrong.
    assert len(outcomes) == 20
    assert all(status == "pass" or "still running" in output for status, output in outcomes)


async def test_it_runs_in_no_request_s_context():
    current = ContextVar("current", default="no request")
    current.set("a request")
    assert await outcome(make(current.get)) == ("pass", "no request")

    async def ask():
        return current.get()

    assert await outcome(make(ask)) == ("pass", "no request")


async def test_that_it_fails_is_logged_once_and_that_it_passes_again_once(caplog):
    caplog.set_level(logging.INFO, LOGGER)
    works = True

    def ask():
        if not works:
            raise OSError("gone")

    check = make(ask)
    for works in (True, False, False, False, True, True):  # noqa: B007 - `ask` reads it
        await outcome(check)
    assert [record.getMessage() for record in caplog.records] == [
        "the health check db fails: OSError: gone",
        "the health check db passes again",
    ]
