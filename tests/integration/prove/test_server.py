"""A server under comparison starts on its own port, explains its failures, and always ends."""

import asyncio
import os
import signal
import subprocess
import sys
import urllib.request
from dataclasses import replace

import pytest

from upshift.errors import ProofError
from upshift.prove import Variant, cpu_seconds, serve


def answer(url):
    with urllib.request.urlopen(url, timeout=10) as response:
        return response.read().decode()


async def test_two_at_once_listen_on_ports_of_their_own(tiny):
    async with serve(tiny()) as one, serve(tiny()) as other:
        assert one.url != other.url
        assert await asyncio.to_thread(answer, one.url)
        assert await asyncio.to_thread(answer, other.url)


async def test_runs_in_the_variants_folder_and_environment(tiny, tmp_path):
    async with serve(replace(tiny(), env={"FLAVOUR": "mint"}, cwd=tmp_path)) as server:
        assert await asyncio.to_thread(answer, server.url) == f"{tmp_path} mint"


async def test_its_pid_is_the_root_of_all_its_cpu_time(tiny):
    async with serve(tiny(work=2_000_000)) as server:
        before = cpu_seconds([server.pid])
        await asyncio.to_thread(answer, server.url)
        assert cpu_seconds([server.pid]) - before > 0.01


async def test_is_ready_when_the_ready_path_says_so(tiny):
    async with serve(tiny(warming=3), ready_path="/ready") as server:
        assert await asyncio.to_thread(answer, server.url)


class TestFailures:
    async def start(self, variant, **options):
        with pytest.raises(ProofError) as caught:
            async with serve(variant, **options):
                pass
        return str(caught.value)

    async def test_a_server_that_does_not_start_shows_its_last_words(self):
        code = "import sys; print('loading'); sys.exit('no module named {port}')"
        message = await self.start(Variant("head", (sys.executable, "-c", code)))
        assert message.startswith("head ended by itself (exit status 1): ")
        assert "    no module named " in message

    async def test_a_command_that_does_not_exist_is_named(self):
        message = await self.start(Variant("base", ("no-such-server", "{port}")))
        assert "cannot run no-such-server: No such file or directory" in message

    async def test_a_folder_that_does_not_exist_is_named(self, tiny, tmp_path):
        message = await self.start(replace(tiny(), cwd=tmp_path / "gone"))
        assert "base cannot be started in" in message

    async def test_a_server_that_never_listens_is_given_up(self, pids):
        code = f"import os, time; open({str(pids)!r}, 'w').write(str(os.getpid())); time.sleep(60) # {{port}}"
        message = await self.start(Variant("base", (sys.executable, "-c", code)), start_seconds=0.5)
        assert "base was not ready within 0.5 s at http://127.0.0.1:" in message
        assert not pids.running()

    async def test_a_server_that_never_gets_ready_is_given_up(self, tiny, pids):
        variant = tiny(status=503, pids=pids)
        message = await self.start(variant, ready_path="/ready", start_seconds=0.5)
        assert "base was not ready within 0.5 s at GET http://127.0.0.1:" in message
        assert not pids.running()

    async def test_a_server_that_speaks_no_http_is_not_ready(self):
        code = (
            "import socket, sys; server = socket.create_server(('127.0.0.1', int(sys.argv[1])))\n"
            "while True: server.accept()[0].sendall(b'SSH-2.0-surprise\\r\\n')"
        )
        variant = Variant("base", (sys.executable, "-c", code, "{port}"))
        assert "was not ready" in await self.start(variant, ready_path="/", start_seconds=0.5)

    async def test_a_flood_of_output_leaves_its_last_lines(self):
        code = "import sys; print('x' * 50_000_000); print(*range(100), sep='\\n'); sys.exit('{port}')"
        message = await self.start(Variant("base", (sys.executable, "-c", code)))
        assert "    99\n" in message
        assert len(message) < 1_000

    async def test_work_ends_when_the_server_does(self, tiny, pids):
        async def kill_and_wait_for_ever():
            (pid,) = pids.all()
            os.kill(pid, signal.SIGKILL)
            await asyncio.Event().wait()

        async with serve(tiny(pids=pids)) as server:
            with pytest.raises(ProofError, match=r"base ended by itself \(exit status 137\)"):
                await server.alive_during(kill_and_wait_for_ever())


class TestStops:
    async def test_when_the_block_ends(self, tiny, pids):
        async with serve(tiny(pids=pids)):
            assert len(pids.running()) == 1
        assert not pids.running()

    async def test_when_the_block_raises(self, tiny, pids):
        with pytest.raises(ZeroDivisionError):
            async with serve(tiny(pids=pids)):
                raise ZeroDivisionError
        assert not pids.running()

    async def test_when_the_block_is_cancelled(self, tiny, pids):
        async def hold():
            async with serve(tiny(pids=pids)):
                await asyncio.Event().wait()

        holding = asyncio.create_task(hold())
        await asyncio.to_thread(pids.wait_for, 1)
        holding.cancel()
        with pytest.raises(asyncio.CancelledError):
            await holding
        pids.wait_until_gone()

    async def test_by_sigkill_when_it_ignores_sigterm(self, tiny, pids):
        async with serve(tiny(deaf=1, pids=pids), grace_seconds=0.2):
            pass
        assert not pids.running()

    async def test_with_the_children_it_leaves_behind(self, tiny, pids):
        async with serve(tiny(child=1, pids=pids)):
            await asyncio.to_thread(pids.wait_for, 2)
        pids.wait_until_gone()

    @pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
    def test_with_its_children_when_the_owner_is_killed(self, tiny, pids, number):
        variant = tiny(child=1, deaf=1, pids=pids)
        code = (
            "import asyncio\nfrom upshift.prove import Variant, serve\n"
            "async def main():\n"
            f"    async with serve(Variant('base', {variant.argv!r}), grace_seconds=0.2):\n"
            "        await asyncio.Event().wait()\n"
            "asyncio.run(main())"
        )
        with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL) as owner:
            pids.wait_for(2, by=owner)
            owner.send_signal(number)
            assert owner.wait(10) != 0
        pids.wait_until_gone()
