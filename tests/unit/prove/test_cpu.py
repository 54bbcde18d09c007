"""CPU time of process trees is complete, whatever ended meanwhile."""

import contextlib
import os
import subprocess
import sys

import pytest

from upshift.errors import ProofError
from upshift.prove.cpu import _LINUX, _PSUTIL, _tree, cpu_seconds

BURN = """
import sys, time
def burn(clock=time.process_time, seconds=0.2):
    until = clock() + seconds
    while clock() < until:
        pass
def ready():
    print(flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def running():
    """Starts Python code that calls `ready()` when it is to be looked at; gives its process id."""
    started = []

    def run(code):
        process = subprocess.Popen(
            [sys.executable, "-c", BURN + code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        started.append(process)
        assert process.stdout.readline() == b"\n"
        return process.pid

    yield run
    for process in started:
        process.communicate()


def test_counts_a_process(running):
    assert cpu_seconds([running("burn(); ready()")]) >= 0.2


def test_counts_threads_that_have_ended(running):
    code = (
        "import threading; thread = threading.Thread(target=burn, args=(time.thread_time,)); thread.start()"
    )
    assert cpu_seconds([running(f"{code}; thread.join(); ready()")]) >= 0.2


def test_counts_children_that_run(running):
    code = "import os\nif os.fork(): sys.stdin.read()\nelse: burn(); ready()"
    assert cpu_seconds([running(code)]) >= 0.2


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the time of ended children")
def test_counts_children_that_have_ended(running):
    code = "import os\nchild = os.fork()\nif child: os.waitpid(child, 0); ready()\nelse: burn()"
    assert cpu_seconds([running(code)]) >= 0.18  # ticks of 10 ms


def test_counts_a_descendant_once_even_when_it_is_named(running):
    code = "import os\nif os.fork(): sys.stdin.read()\nelse: ready()"
    parent = running(code)
    (child,) = _LINUX.children(parent) if sys.platform == "linux" else _PSUTIL.children(parent)
    assert _tree([parent, child], _PSUTIL) == {parent, child}


def test_two_readings_of_an_idle_process_are_equal(running):
    pid = running("ready()")
    cpu_seconds([pid])  # it may still be on its way to sleep
    assert cpu_seconds([pid]) == pytest.approx(cpu_seconds([pid]), abs=0.01)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_both_sources_agree(running):
    pid = running("import os\nif os.fork(): burn(); sys.stdin.read()\nelse: burn(seconds=0.5); ready()")
    tree = _tree([pid], _LINUX)
    assert tree == _tree([pid], _PSUTIL)
    for process in tree:
        assert _LINUX.seconds(process) == pytest.approx(_PSUTIL.seconds(process), abs=0.05)


def test_says_which_process_does_not_run():
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    with pytest.raises(
        ProofError, match=f"process {ended.pid}, whose CPU time is to be counted, does not run"
    ):
        cpu_seconds([os.getpid(), ended.pid])


@pytest.mark.parametrize("source", [_PSUTIL] if sys.platform != "linux" else [_LINUX, _PSUTIL])
def test_a_process_that_has_ended_is_a_lookup_error_in_every_source(source):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    for read in source:
        with pytest.raises(ProcessLookupError):
            read(ended.pid)


@pytest.mark.skipif(sys.platform != "linux", reason="spawns /bin/true")
def test_children_that_come_and_go_are_counted_or_refused_in_words(running):
    pid = running(
        "import os, threading; threading.Thread(target=ready).start()\n"
        "for _ in range(300): os.waitpid(os.posix_spawn('/bin/true', ['true'], {}), 0)"
    )
    for _ in range(20):
        with contextlib.suppress(ProofError):
            assert cpu_seconds([pid]) > 0
