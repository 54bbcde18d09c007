from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time

import psutil
import pytest

from upshift.testing.servers import postgres, supervisor, valkey

START = {"postgres": postgres, "valkey": valkey}
SERVERS = pytest.mark.parametrize("server", START)
ONE_SERVER = pytest.mark.parametrize("server", ["valkey"])
"""For what happens between the caller and the supervisor, whatever the server; Valkey starts faster."""


@SERVERS
def test_server_is_gone_when_its_caller_is_killed(hold, server):
    caller = hold(server)
    caller.process.kill()
    caller.process.wait()
    caller.traces.assert_gone()


@ONE_SERVER
def test_server_is_gone_though_a_child_that_the_killed_caller_forked_lives_on(hold, server):
    caller = hold(server, then="print(os.fork() or time.sleep(20), flush=True); time.sleep(20)")
    child = int(caller.process.stdout.readline())
    try:
        caller.process.kill()
        caller.process.wait()
        caller.traces.assert_gone()
    finally:
        os.kill(child, signal.SIGKILL)  # raises where the child, and so the open pipe, was gone before


@SERVERS
def test_ctrl_c_at_the_terminal_leaves_nothing_behind(hold, server):
    caller = hold(server)
    os.killpg(caller.process.pid, signal.SIGINT)
    _, errors = caller.process.communicate()
    assert "KeyboardInterrupt" in errors
    caller.traces.assert_gone()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_nothing_is_left_of_a_start_that_was_cut_short(open_directory, number):
    open_directory.chmod(0o777)
    caller = subprocess.Popen(
        [sys.executable, "-c", "from upshift.testing.servers import postgres; postgres().__enter__()"],
        env={**os.environ, "TMPDIR": str(open_directory)},
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    with caller:
        while not list(open_directory.glob("upshift-*/data/*")):  # until initdb is at work
            assert caller.poll() is None
            time.sleep(0.001)
        os.killpg(caller.pid, number)
    deadline = time.monotonic() + 5
    while list(open_directory.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert list(open_directory.iterdir()) == []


@ONE_SERVER
def test_a_forked_copy_of_the_caller_does_not_stop_the_server_when_it_leaves_the_block(hold, server):
    caller = hold(
        server, then="child = os.fork(); child and print(os.waitpid(child, 0)) or time.sleep(20 * child)"
    )
    assert caller.process.stdout.readline().endswith(", 0)\n")
    assert caller.traces.server.is_running()


@ONE_SERVER
def test_server_outlives_the_thread_that_started_it(server):
    with contextlib.ExitStack() as stack:
        started = []
        thread = threading.Thread(target=lambda: started.append(stack.enter_context(START[server]())))
        thread.start()
        thread.join()
        time.sleep(2 * supervisor.LOOK_INTERVAL_S)  # long enough for a supervisor that were wrong about it
        assert psutil.Process(started[0].pid).is_running()


@SERVERS
def test_nothing_is_left_after_the_block(traces_of, server):
    with START[server]() as running:
        traces = traces_of(running.pid)
        assert running.pid in {process.pid for process in traces.left()[:2]}
    assert traces.left() == []


@ONE_SERVER
def test_an_exception_leaves_the_block_as_it_was_and_ends_the_server(traces_of, server):
    with pytest.raises(ZeroDivisionError), START[server]() as running:  # noqa: PT012 - the block is what is tested
        traces = traces_of(running.pid)
        1 / 0  # noqa: B018 - raises
    assert traces.left() == []


@ONE_SERVER
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_server_that_was_killed_from_outside_takes_all_of_itself_along(traces_of, server, number):
    with START[server]() as running:
        traces = traces_of(running.pid)
        traces.server.send_signal(number)
        traces.assert_gone()


@ONE_SERVER
def test_the_death_of_the_server_hides_no_exception_of_the_block(server):
    with pytest.raises(ZeroDivisionError), START[server]() as running:  # noqa: PT012 - the block is what is tested
        os.kill(running.pid, signal.SIGKILL)
        1 / 0  # noqa: B018 - raises


@SERVERS
def test_a_stopped_server_is_ended(traces_of, server):
    with START[server]() as running:
        traces = traces_of(running.pid)
        traces.server.suspend()
    assert traces.left() == []


@ONE_SERVER
def test_a_supervisor_that_is_asked_to_end_takes_the_server_along(traces_of, server):
    with START[server]() as running:
        traces = traces_of(running.pid)
        traces.supervisor.terminate()
        traces.assert_gone()


@ONE_SERVER
def test_a_caller_whose_supervisor_was_killed_ends_the_server_itself(traces_of, server):
    with START[server]() as running:
        traces = traces_of(running.pid)
        traces.supervisor.kill()
    traces.assert_gone()


@ONE_SERVER
def test_several_servers_run_at_once_and_end_apart(traces_of, server):
    with START[server]() as one:
        with START[server]() as two:
            traces = traces_of(two.pid)
            assert one != two
        assert traces.left() == []
        assert psutil.Process(one.pid).is_running()
