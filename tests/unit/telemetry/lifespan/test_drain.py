"""SIGTERM is held back in both ways in which servers hear it, and everything is put back."""

import asyncio
import signal
import threading

import pytest
import uvloop

from upshift.telemetry.lifespan import drain as module
from upshift.telemetry.lifespan.drain import Drain

TERM = signal.SIGTERM
LONG = 3600.0


@pytest.fixture(autouse=True)
def handlers():
    """What the test found must be there when it ends."""
    before = {number: signal.getsignal(number) for number in (TERM, signal.SIGINT)}
    yield
    after = {number: signal.getsignal(number) for number in before}
    for number, handler in before.items():
        signal.signal(number, handler)
    assert after == before


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def runner(request):
    with asyncio.Runner(loop_factory=request.param) as runner:
        yield runner


class ByHandler:
    """A server like Uvicorn, with `signal.signal`."""

    def __init__(self, heard):
        self._heard = heard

    def __enter__(self):
        self._before = signal.signal(TERM, self._handle)

    def _handle(self, number, frame):
        self._heard.append("server")

    def __exit__(self, *_):
        assert signal.getsignal(TERM) == self._handle
        signal.signal(TERM, self._before)


class ByCallback:
    """A server like Gunicorn's worker and Granian, with the event loop's callbacks."""

    def __init__(self, heard):
        self._heard = heard

    def __enter__(self):
        asyncio.get_running_loop().add_signal_handler(TERM, self._heard.append, "server")

    def __exit__(self, *_):
        assert asyncio.get_running_loop().remove_signal_handler(TERM)


@pytest.fixture(params=[ByHandler, ByCallback], ids=["handler", "callback"])
def server(request):
    return request.param


async def settle(seconds=0.05):
    await asyncio.sleep(seconds)


def test_the_server_hears_it_after_the_wait(runner, server):
    heard = []

    async def main():
        with server(heard):
            drain = Drain(0.2, lambda: heard.append("drain"))
            drain.install()
            signal.raise_signal(TERM)
            await settle()
            assert heard == ["drain"]
            while len(heard) < 2:
                await settle()
            assert heard == ["drain", "server"]
            assert not drain.is_installed
            signal.raise_signal(TERM)  # which is the server's again
            await settle()
            assert heard == ["drain", "server", "server"]

    runner.run(main())


def test_without_a_wait_the_server_hears_it_at_once(runner, server):
    heard = []

    async def main():
        with server(heard):
            Drain(0, lambda: heard.append("drain")).install()
            signal.raise_signal(TERM)
            await settle()
            assert heard == ["drain", "server"]

    runner.run(main())


def test_a_second_signal_ends_the_wait(runner, server, monkeypatch):
    heard = []

    async def main():
        with server(heard):
            Drain(LONG, lambda: heard.append("drain")).install()
            signal.raise_signal(TERM)
            await settle()
            monkeypatch.setattr(module, "SAME_SECONDS", 0.0)
            signal.raise_signal(TERM)
            await settle()
            assert heard == ["drain", "drain", "server"]

    runner.run(main())


def test_the_same_signal_from_two_sides_does_not_end_it(runner, server):
    heard = []

    async def main():
        with server(heard):
            drain = Drain(LONG, lambda: heard.append("drain"))
            drain.install()
            signal.raise_signal(TERM)  # systemd's, to each process
            await settle()
            signal.raise_signal(TERM)  # and that of the server's own parent
            await settle()
            assert "server" not in heard
            drain.close()

    runner.run(main())


def test_closed_it_leaves_nothing_behind(runner, server):
    heard = []

    async def main():
        with server(heard):
            drain = Drain(LONG, lambda: heard.append("drain"))
            drain.install()
            drain.close()
            drain.close()
            signal.raise_signal(TERM)
            await settle()
            assert heard == ["server"]

    runner.run(main())


def test_closed_while_it_waits_it_raises_nothing_later(runner, server):
    heard = []

    async def main():
        with server(heard):
            drain = Drain(0.05, lambda: heard.append("drain"))
            drain.install()
            signal.raise_signal(TERM)
            await settle(0.01)
            drain.close()
            await settle(0.2)
            assert heard == ["drain"]

    runner.run(main())


def test_interrupts_are_not_touched(runner, server):
    before = signal.getsignal(signal.SIGINT)

    async def main():
        with server([]):
            during = signal.getsignal(signal.SIGINT)
            drain = Drain(LONG, lambda: None)
            drain.install()
            assert signal.getsignal(signal.SIGINT) == during
            drain.close()

    runner.run(main())
    assert signal.getsignal(signal.SIGINT) == before


def test_a_wait_survives_the_loop_s_being_run_in_turns(runner, server):
    """Granian runs its loop once to start up, and once more to serve."""
    heard = []
    drain = Drain(0.05, lambda: heard.append("drain"))
    serving = server(heard)

    async def start():
        serving.__enter__()
        drain.install()

    async def serve():
        signal.raise_signal(TERM)
        while "server" not in heard:
            await settle()
        serving.__exit__()

    runner.run(start())
    runner.run(serve())
    assert heard == ["drain", "server"]


def test_other_callbacks_of_the_loop_stay(runner):
    heard = []

    async def main():
        loop = asyncio.get_running_loop()
        with ByCallback(heard):
            drain = Drain(LONG, lambda: heard.append("drain"))
            drain.install()
            loop.add_signal_handler(signal.SIGUSR1, heard.append, "other")
            signal.raise_signal(TERM)
            signal.raise_signal(signal.SIGUSR1)
            await settle()
            assert sorted(heard) == ["drain", "other"]
            drain.close()
            loop.remove_signal_handler(signal.SIGUSR1)

    runner.run(main())


def test_a_handler_that_wraps_ours_stays_and_reaches_the_server(runner):
    heard = []

    async def main():
        with ByHandler(heard):
            theirs = signal.getsignal(TERM)
            drain = Drain(LONG, lambda: heard.append("drain"))
            drain.install()
            ours = signal.getsignal(TERM)

            def wrapper(number, frame):
                heard.append("wrapper")
                ours(number, frame)

            signal.signal(TERM, wrapper)
            drain.close()
            assert signal.getsignal(TERM) is wrapper
            signal.raise_signal(TERM)
            await settle()
            assert heard == ["wrapper", "server"]
            signal.signal(TERM, theirs)

    runner.run(main())


def test_a_wrapped_wait_ends_at_the_server_without_a_second_signal(runner):
    heard = []

    async def main():
        with ByHandler(heard):
            theirs = signal.getsignal(TERM)
            Drain(0.02, lambda: heard.append("drain")).install()
            ours = signal.getsignal(TERM)
            signal.signal(TERM, lambda *arguments: (heard.append("wrapper"), ours(*arguments)))
            signal.raise_signal(TERM)
            while "server" not in heard:
                await settle()
            assert heard == ["wrapper", "drain", "server"]
            signal.signal(TERM, theirs)

    runner.run(main())


def test_a_callback_put_in_place_of_ours_stays(runner):
    heard = []

    async def main():
        with ByCallback(heard):
            drain = Drain(LONG, lambda: heard.append("drain"))
            drain.install()
            asyncio.get_running_loop().add_signal_handler(TERM, heard.append, "later")
            drain.close()
            signal.raise_signal(TERM)
            await settle()
            assert heard == ["later"]

    runner.run(main())


def test_an_ignored_signal_stays_ignored(runner):
    heard = []

    async def main():
        before = signal.signal(TERM, signal.SIG_IGN)
        drain = Drain(0, lambda: heard.append("drain"))
        drain.install()
        assert not drain.is_installed
        signal.raise_signal(TERM)
        await settle()
        signal.signal(TERM, before)

    runner.run(main())
    assert heard == []


def test_outside_of_the_main_thread_nothing_is_installed():
    installed = []

    async def main():
        drain = Drain(LONG, lambda: None)
        drain.install()
        installed.append(drain.is_installed)

    thread = threading.Thread(target=lambda: asyncio.run(main()))
    thread.start()
    thread.join(10)
    assert installed == [False]


def test_a_signal_after_the_loop_was_closed_reaches_the_server_at_once():
    heard = []
    drain = Drain(LONG, lambda: heard.append("drain"))

    async def main():
        drain.install()

    with ByHandler(heard):
        asyncio.run(main())
        signal.raise_signal(TERM)
        assert heard == ["drain", "server"]
