import asyncio
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from upshift.load import pacer
from upshift.load.pacer import Pacer

DESCRIPTORS = Path("/proc/self/fd")


@pytest.fixture(params=["timerfd", "loop timer"])
def way(request, monkeypatch):
    if request.param == "loop timer":
        monkeypatch.setattr(pacer, "sys", SimpleNamespace(platform="darwin"))
    elif not DESCRIPTORS.exists():
        pytest.skip("timerfd is Linux's")


def open_descriptors():
    return len(list(DESCRIPTORS.iterdir()))


async def wakes_at(moments):
    """Sleep until each moment as the open model does; when it woke for each."""
    woken = []
    done = asyncio.Event()

    def wake():
        while len(woken) < len(moments) and moments[len(woken)] <= time.monotonic():
            woken.append(time.monotonic())
        if len(woken) < len(moments):
            clock.wake_at(moments[len(woken)])
        else:
            clock.close()
            done.set()

    clock = Pacer(wake)
    clock.wake_at(moments[0])
    await done.wait()
    return woken


@pytest.mark.usefixtures("way")
async def test_it_wakes_for_each_moment_and_never_before():
    now = time.monotonic()
    moments = [now + step / 200 for step in range(1, 6)]
    woken = await wakes_at(moments)
    assert all(actual >= moment for actual, moment in zip(woken, moments, strict=True))


@pytest.mark.usefixtures("way")
async def test_a_moment_that_has_passed_wakes_at_once():
    assert len(await wakes_at([time.monotonic() - 1])) == 1


@pytest.mark.usefixtures("way")
async def test_a_closed_pacer_wakes_no_more():
    woken = []
    clock = Pacer(lambda: woken.append(1))
    clock.wake_at(time.monotonic() + 0.01)
    clock.close()
    clock.close()
    await asyncio.sleep(0.05)
    assert woken == []


@pytest.mark.skipif(not DESCRIPTORS.exists(), reason="counts descriptors as Linux does")
async def test_no_descriptor_is_left_behind():
    before = open_descriptors()
    for _ in range(10):
        await wakes_at([time.monotonic()])
    assert open_descriptors() == before
