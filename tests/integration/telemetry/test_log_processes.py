"""Real processes that log: to one file at once, into full disks and hanging pipes, killed and forked."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

PRELUDE = """
import atexit, logging, os, sys, threading, time
from contextvars import ContextVar
from upshift.record import Record
from upshift.settings import LogSettings
from upshift.telemetry.logs import install

current = ContextVar("current", default=None)
log = logging.getLogger("shop")

def start(**settings):
    settings = {"log_format": "json"} | settings
    return install(LogSettings(**settings), service="shop", current=current, slow_request_seconds=1.0)
"""


def run(script, *arguments, **popen):
    return subprocess.Popen([sys.executable, "-c", PRELUDE + script, *map(str, arguments)], **popen)


def finished(process, timeout=60):
    """Wait for a process and fail where it failed."""
    out, err = process.communicate(timeout=timeout)
    assert process.returncode == 0, err
    return out, err


def lines_of(*paths):
    """The lines of files, each of which must be whole."""
    return [json.loads(line) for path in paths for line in path.read_bytes().splitlines()]


def all_files(path):
    return [each for each in path.parent.iterdir() if each.name != f"{path.name}.lock"]


MANY = """
logs = start(log_file=sys.argv[1], log_rotate_bytes=int(sys.argv[3]), log_rotate_count=10_000)
for number in range(int(sys.argv[4])):
    log.info("a line", extra={"worker": int(sys.argv[2]), "number": number, "filling": "x" * (number % 300)})
    if number % 50 == 0:
        logs.flush(30)
done = logs.close(30)
assert done and not logs.faults and not logs.dropped, (done, logs.faults, logs.dropped)
"""


def test_processes_that_write_and_rotate_at_once_lose_and_tear_no_line(tmp_path):
    path, workers, lines = tmp_path / "shop.log", 4, 1_000

    processes = [run(MANY, path, worker, 10_000, lines, stderr=subprocess.PIPE) for worker in range(workers)]
    for process in processes:
        finished(process)

    files = all_files(path)
    found = sorted((each["worker"], each["number"]) for each in lines_of(*files))
    assert found == [(worker, number) for worker in range(workers) for number in range(lines)]
    assert len(files) > 20


def test_each_process_finds_its_lines_in_order(tmp_path):
    path = tmp_path / "shop.log"
    for process in [run(MANY, path, worker, 20_000, 500, stderr=subprocess.PIPE) for worker in range(2)]:
        finished(process)

    def age(file):
        return -int(file.suffix[1:]) if file != path else 0

    lines = lines_of(*sorted(all_files(path), key=age))
    for worker in range(2):
        numbers = [each["number"] for each in lines if each["worker"] == worker]
        assert numbers == sorted(numbers)


def test_a_file_that_others_move_away_again_and_again_loses_no_line(tmp_path):
    path = tmp_path / "shop.log"
    process = run(MANY, path, 0, 0, 3_000, stderr=subprocess.PIPE)
    moved = 0
    while process.poll() is None:
        if path.exists():
            moved += 1
            path.rename(tmp_path / f"away.{moved}")
        time.sleep(0.01)
    finished(process)

    assert moved > 2
    assert sorted(each["number"] for each in lines_of(*all_files(path))) == list(range(3_000))


def test_a_process_that_is_killed_while_it_rotates_stops_nobody(tmp_path):
    path = tmp_path / "shop.log"
    victim = run(
        "import itertools\n" + MANY.replace("range(int(sys.argv[4]))", "itertools.count()"), path, 0, 3_000, 0
    )
    while not Path(f"{path}.9").exists():
        time.sleep(0.01)
    victim.kill()
    victim.wait()
    finished(run(MANY, path, 1, 3_000, 300, stderr=subprocess.PIPE))

    lines = [line for file in all_files(path) for line in file.read_bytes().splitlines()]
    whole = [json.loads(line) for line in lines if line.endswith(b"}")]
    assert sum(each["worker"] == 1 for each in whole) == 300
    assert len(lines) - len(whole) <= 1  # what the victim was writing


def test_what_was_logged_is_written_when_an_exception_ends_the_process(tmp_path):
    path = tmp_path / "shop.log"
    process = run(
        "logs = start(log_file=sys.argv[1])\nlog.critical('on fire')\nlog.error('help')\n1 / 0",
        path,
        stderr=subprocess.PIPE,
    )
    _, err = process.communicate(timeout=30)

    assert process.returncode == 1
    assert b"ZeroDivisionError" in err
    assert [each["message"] for each in lines_of(path)] == ["on fire", "help"]


def test_what_is_logged_at_the_very_end_is_written(tmp_path):
    path = tmp_path / "shop.log"
    script = """
atexit.register(lambda: log.error("the end"))
logs = start(log_file=sys.argv[1])
"""
    finished(run(script, path, stderr=subprocess.PIPE))

    assert [each["message"] for each in lines_of(path)] == ["the end"]


def test_what_was_logged_is_written_though_logging_was_configured_anew(tmp_path):
    path = tmp_path / "shop.log"
    script = """
import logging.config
logs = start(log_file=sys.argv[1])
logging.config.dictConfig({"version": 1, "disable_existing_loggers": False})
log.error("help")
"""
    finished(run(script, path, stderr=subprocess.PIPE))

    assert [each["message"] for each in lines_of(path)] == ["help"]


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_worker_of_multiprocessing_writes_what_it_logged(tmp_path, method):
    path, script = tmp_path / "shop.log", tmp_path / "pool.py"
    script.write_text(
        PRELUDE
        + f"""
import multiprocessing

def work(path):
    if "{method}" == "spawn":
        start(log_file=path)
    log.error("from a worker")

if __name__ == "__main__":
    start(log_file=sys.argv[1])
    worker = multiprocessing.get_context("{method}").Process(target=work, args=(sys.argv[1],))
    worker.start()
    worker.join()
"""
    )
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", str(script), str(path)], stderr=subprocess.PIPE
    )
    finished(process)

    assert [each["message"] for each in lines_of(path)] == ["from a worker"]


def test_a_forked_child_has_a_thread_of_its_own_and_doubles_no_line(tmp_path):
    path = tmp_path / "shop.log"
    script = """
import warnings
warnings.simplefilter("ignore")
logs = start(log_file=sys.argv[1])
for number in range(500):
    log.info("parent", extra={"number": number})
pid = os.fork()
if not pid:
    for number in range(500):
        log.info("child", extra={"number": number})
    sys.exit()
assert os.waitpid(pid, 0)[1] == 0
"""
    finished(run(script, path, stderr=subprocess.PIPE))

    lines = lines_of(path)
    for who in ("parent", "child"):
        assert [each["number"] for each in lines if each["message"] == who] == list(range(500))


ENDLESS = """
start(log_file=sys.argv[1])
for number in range(10**9):
    log.info("%d", number)
    time.sleep(0.001)
"""


def test_a_killed_process_has_written_what_it_logged_a_moment_before(tmp_path):
    path = tmp_path / "shop.log"
    process = run(
        ENDLESS,
        path,
    )
    while not path.exists() or path.read_bytes().count(b"\n") < 100:
        time.sleep(0.01)
    process.send_signal(signal.SIGSTOP)
    process.kill()
    process.wait()

    assert [int(each["message"]) for each in lines_of(path)][:100] == list(range(100))


@contextmanager
def small_disk(folder, megabytes):
    """A file system that is really full after some megabytes."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
    try:
        done = subprocess.run(mount, capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount command")
    if done.returncode:
        pytest.skip("a file system can only be mounted by root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


FULL = """
logs = start(log_file=sys.argv[1])
log.info("first", extra={"filling": "x" * 500})
longest = 0.0
for number in range(3_000):
    started = time.perf_counter()
    log.info("more", extra={"number": number, "filling": "x" * 500})
    longest = max(longest, time.perf_counter() - started)
while not logs.faults:
    time.sleep(0.01)
print(longest, flush=True)
sys.stdin.read(1)  # until somebody has made room
done = logs.close(30)
print(done, logs.dropped, logs.faults, flush=True)
"""


def test_a_full_disk_costs_no_line_once_there_is_room_again(tmp_path):
    with small_disk(tmp_path / "disk", 1) as disk:
        path = disk / "shop.log"
        (disk / "ballast").write_bytes(b"x" * 900_000)
        process = run(FULL, path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        longest = float(process.stdout.readline())
        (disk / "ballast").unlink()
        subprocess.run(["mount", "-o", "remount,size=8m", str(disk)], check=True)
        out, err = process.communicate(b"\n", timeout=60)
        lines = path.read_bytes().splitlines()

    done, dropped, faults = out.split()
    assert (done, dropped) == (b"True", b"0")
    assert int(faults) >= 1
    whole = [json.loads(line) for line in lines if line.endswith(b"}")]
    assert [each["number"] for each in whole if each["message"] == "more"] == list(range(3_000))
    assert len(lines) - len(whole) <= int(faults)  # the halves of lines that a full disk took
    assert longest < 0.5  # and nobody waited for it
    told = [json.loads(line) for line in err.splitlines()]
    assert len(told) == 1
    assert "No space left on device" in told[0]["message"]


HANGING = """
logs = start()
longest = 0.0
for number in range(20_000):
    started = time.perf_counter()
    log.info("more", extra={"number": number, "filling": "x" * 500})
    longest = max(longest, time.perf_counter() - started)
while not logs.faults:
    time.sleep(0.01)
started = time.perf_counter()
assert not logs.flush(0.2)
print(longest, time.perf_counter() - started, logs.dropped, flush=True)
sys.stdin.read(1)
log.info("last")
logs.close(30)
"""


def test_a_reader_that_hangs_stops_nobody_and_what_was_dropped_is_counted_and_told():
    process = run(HANGING, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    longest, waited, dropped = process.stdout.readline().split()
    _, err = process.communicate(b"\n", timeout=60)

    assert process.returncode == 0
    assert float(longest) < 0.5
    assert float(waited) < 1.5
    assert int(dropped) > 0
    lines = [json.loads(line) for line in err.splitlines()]
    numbers = [each["number"] for each in lines if each["message"] == "more"]
    assert numbers == list(range(20_000 - int(dropped)))
    told = [each for each in lines if "were dropped" in each["message"]]
    assert [each["message"].split()[0] for each in told] == [dropped.decode()]
    assert lines[-1]["message"] == "last" or lines[-1] in told


def test_a_process_ends_in_time_though_its_reader_hangs():
    process = run("logs = start()\nfor _ in range(5_000): log.info('x' * 100)", stderr=subprocess.PIPE)
    assert process.wait(timeout=30) == 0
    process.stderr.close()


def test_a_reader_that_has_gone_is_a_fault_and_no_more():
    script = """
os.close(int(sys.argv[1]))
logs = start()
log.info("to nobody")
logs.flush(0.1)
print(logs.faults > 0, flush=True)
"""
    reader, writer = os.pipe()
    process = run(script, reader, stdout=subprocess.PIPE, stderr=writer, pass_fds=[reader])
    os.close(writer)
    os.close(reader)
    out, _ = process.communicate(timeout=30)

    assert process.returncode == 0
    assert out == b"True\n"


def test_processes_that_share_a_pipe_tear_no_line():
    reader, writer = os.pipe()
    script = """
logs = start()
for number in range(2_000):
    log.info("a line", extra={"worker": int(sys.argv[1]), "number": number, "filling": "x" * (number % 300)})
logs.close(60)
"""
    processes = [run(script, worker, stderr=writer) for worker in range(3)]
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        lines = [json.loads(line) for line in pipe]
    for process in processes:
        assert process.wait(30) == 0

    found = sorted((each["worker"], each["number"]) for each in lines)
    assert found == [(worker, number) for worker in range(3) for number in range(2_000)]


def test_a_limit_on_the_size_of_files_is_a_fault_and_no_more(tmp_path):
    path = tmp_path / "shop.log"
    script = """
logs = start(log_file=sys.argv[1])
for number in range(100):
    log.info("x" * 100)
logs.flush(0.2)
print(logs.faults > 0, flush=True)
"""
    process = run(
        script,
        path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, 5_000)),
    )
    out, err = finished(process)

    assert out == b"True\n"
    assert b"File too large" in err
    assert path.stat().st_size <= 5_000
