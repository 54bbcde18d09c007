"""Real processes share their totals: added at once, killed at any moment, and as workers of real servers."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest

from upshift.telemetry.sharing.totals import FLUSH_SECONDS, SharedTotals

COUNT = """
import sys, time
from array import array
from pathlib import Path
from upshift.telemetry.sharing.totals import Series, SharedTotals

series = [Series(b"%d" % i, "counter", array("d", [0.0] * 10)) for i in range(100)]
shared = SharedTotals(Path(sys.argv[1]), lambda: series)

def count():
    for each in series:
        for i in range(10):
            each.values[i] += 1
"""

ADD = (
    COUNT
    + """
for _ in range(int(sys.argv[2])):
    count()
    shared.flush()
shared.close()
"""
)

# Tells how often it has flushed, so that whoever kills it knows.
ADD_FOR_EVER = (
    COUNT
    + """
while True:
    count()
    shared.flush()
    print(flush=True)
"""
)

# Tells what it has counted, and leaves the flushing to the thread.
SERVE = (
    COUNT
    + """
shared.start()
while True:
    count()
    print(int(series[0].values[0]), time.monotonic(), flush=True)
    time.sleep(0.02)
"""
)

APPLICATION = """
import os
from fastapi import FastAPI
from upshift import Upshift

app = FastAPI()
up = Upshift(app, service="shop")
orders = up.metrics.counter("orders", "Orders placed")
workers = up.metrics.gauge("workers", "Workers that live")

@app.get("/")
def index() -> dict[str, int]:
    workers.set(1)
    return {"pid": os.getpid()}

@app.get("/order")
def order() -> dict[str, int]:
    workers.set(1)
    orders.add()
    return {"pid": os.getpid()}

@app.get("/file")
def file() -> dict[str, str | None]:
    totals = up._shared.totals
    return {"path": totals and str(totals._path)}
"""

# One in the other, both with all defaults, so of one name; and a request that forks a child, as pools do.
NESTED = """
import multiprocessing, os, time
from concurrent.futures import ProcessPoolExecutor
from fastapi import FastAPI
from upshift import Upshift

inner = FastAPI()
up_inner = Upshift(inner)
app = FastAPI()
app.mount("/inner", inner)
up = Upshift(app)
pool = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork"))

@inner.get("/cart")
def cart() -> dict[str, int]:
    return {"pid": os.getpid()}

@app.get("/")
def index() -> dict[str, int]:
    return {"pid": os.getpid()}

@app.get("/fork")
def fork() -> dict[str, int]:
    return {"pid": pool.submit(os.getpid).result()}
"""


def run(script: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)], stdout=subprocess.PIPE, text=True
    )


def totals_of(path: Path) -> dict[bytes, list[float]]:
    shared = SharedTotals(path, list)
    try:
        totals = shared.totals()
        assert shared.faults == 0
        return {key: values for key, (_, values) in totals.items()}
    finally:
        shared.close()


def test_processes_that_add_at_the_same_time_lose_nothing(tmp_path):
    rounds = 200
    workers = [run(ADD, tmp_path / "totals", rounds) for _ in range(3)]
    assert [worker.wait(60) for worker in workers] == [0, 0, 0]
    for worker in workers:
        worker.stdout.close()

    totals = totals_of(tmp_path / "totals")
    assert len(totals) == 100
    assert all(values == [3 * rounds] * 10 for values in totals.values())


def test_workers_killed_in_the_midst_of_flushing_lose_at_most_that_flush(tmp_path):
    path = tmp_path / "totals"
    steady = run(ADD, path, 200)
    least = most = 200
    for number in range(6):
        victim = run(ADD_FOR_EVER, path)
        victim.stdout.readline()
        time.sleep(0.01 + 0.013 * number)
        victim.kill()
        flushes = 1 + victim.stdout.read().count("\n")
        victim.wait(10)
        victim.stdout.close()
        least += flushes
        most += flushes + 1
    assert steady.wait(60) == 0
    steady.stdout.close()

    for values in totals_of(path).values():
        assert set(values) == {values[0]}  # each series was added as a whole
        assert least <= values[0] <= most


def test_a_worker_that_is_killed_loses_at_most_a_second_of_counts(tmp_path):
    path = tmp_path / "totals"
    worker = run(SERVE, path)
    lines = [worker.stdout.readline().split()]
    while float(lines[-1][1]) < float(lines[0][1]) + 2.5 * FLUSH_SECONDS:
        lines.append(worker.stdout.readline().split())
    worker.kill()
    lines += [line.split() for line in worker.stdout.read().splitlines()]
    worker.wait(10)
    worker.stdout.close()

    end = float(lines[-1][1])
    # Half a second more, as this machine may be busy when the second is over.
    owed = [int(count) for count, at in lines if float(at) < end - FLUSH_SECONDS - 0.5][-1]
    assert totals_of(path)[b"0"][0] >= owed > 0


SERVERS = {
    "uvicorn": ["uvicorn", "shop:app", "--workers", "2", "--port", "{port}", "--log-level", "error"],
    "gunicorn": [
        "gunicorn", "shop:app", "--workers", "2", "--bind", "127.0.0.1:{port}", "--worker-class", "asgi",
        "--no-control-socket",
    ],
    "gunicorn, preloaded": [
        "gunicorn", "shop:app", "--workers", "2", "--bind", "127.0.0.1:{port}", "--worker-class", "asgi",
        "--no-control-socket",
        "--preload",
    ],
    "granian": [
        "granian", "shop:app", "--interface", "asgi", "--workers", "2", "--port", "{port}",
        "--respawn-failed-workers", "--respawn-interval", "0.1",
    ],
}  # fmt: skip


class Shop:
    """The application, served by several workers."""

    def __init__(self, server: subprocess.Popen[bytes], port: int) -> None:
        self.server = server
        self._url = f"http://127.0.0.1:{port}"

    def get(self, path: str) -> bytes:
        request = urllib.request.Request(self._url + path, headers={"connection": "close"})
        with urllib.request.urlopen(request, timeout=10) as response:
            return response.read()

    def get_patiently(self, path: str) -> bytes:
        deadline = time.monotonic() + 40
        while True:
            try:
                return self.get(path)
            except OSError:
                assert self.server.poll() is None, "the server ended"
                assert time.monotonic() < deadline, "the server does not answer"
                time.sleep(0.1)

    def ask(self, path: str) -> dict:
        return json.loads(self.get_patiently(path))

    def scrape(self, path: str = "/metrics") -> dict[str, float]:
        lines = self.get_patiently(path).decode().splitlines()
        return {
            name: float(value)
            for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")
        }

    def wait_until(self, condition, path: str = "/metrics") -> dict[str, float]:
        """Scrape until the answer, whichever worker it is from, is as it should be."""
        deadline = time.monotonic() + 20
        while True:
            page = self.scrape(path)
            if condition(page):
                return page
            assert time.monotonic() < deadline, page
            time.sleep(0.05)


@contextmanager
def serve(name: str, folder: Path, port: int, application: str = APPLICATION):
    (folder / "shop.py").write_text(application)
    (folder / "tmp").mkdir(exist_ok=True)
    server = subprocess.Popen(
        [sys.executable, "-m", *(part.format(port=port) for part in SERVERS[name])],
        cwd=folder,
        env=os.environ | {"TMPDIR": str(folder / "tmp"), "PYTHONPATH": str(folder)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield Shop(server, port)
    finally:
        end(server)


def end(server: subprocess.Popen[bytes]) -> None:
    family = [server, *psutil.Process(server.pid).children(recursive=True)] if server.poll() is None else []
    if family:
        server.terminate()
        with suppress(subprocess.TimeoutExpired):
            server.wait(15)
    for process in family:
        with suppress(psutil.NoSuchProcess, ProcessLookupError):
            process.kill()
    server.wait(10)


@pytest.fixture(params=SERVERS)
def shop(request, tmp_path, free_port):
    if find_spec(request.param.split(",")[0]) is None:
        pytest.skip(f"{request.param} is not installed")
    with serve(request.param, tmp_path, free_port) as running:
        ask_both(running)
        yield running


def ask_both(shop: Shop) -> set[int]:
    """Ask until both workers have answered."""
    seen: set[int] = set()
    deadline = time.monotonic() + 20
    while len(seen) < 2:
        seen.add(shop.ask("/")["pid"])
        assert time.monotonic() < deadline, seen
    return seen


@pytest.fixture
def free_port() -> int:
    import socket

    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return bound.getsockname()[1]


ORDER_COUNT = (
    'http_server_request_duration_seconds_count{http_request_method="GET",'
    'http_response_status_code="200",http_route="/order"}'
)


def test_any_worker_of_a_server_tells_the_sum_of_all_alive_or_dead(shop, tmp_path):
    ordered_by = [shop.ask("/order")["pid"] for _ in range(40)]
    shop.wait_until(lambda page: page["orders_total"] == page.get(ORDER_COUNT) == 40 and page["workers"] == 2)

    time.sleep(FLUSH_SECONDS + 0.5)
    os.kill(ordered_by[0], signal.SIGKILL)
    deadline = time.monotonic() + 20
    while ordered_by[0] in ask_both(shop):
        assert time.monotonic() < deadline
    shop.wait_until(lambda page: page["orders_total"] == page[ORDER_COUNT] == 40 and page["workers"] == 2)

    assert len(list((tmp_path / "tmp").glob("upshift-*"))) == 1


def test_the_file_of_a_server_that_ended_is_removed_by_the_next_one(tmp_path, free_port):
    with serve("uvicorn", tmp_path, free_port) as first:
        first.get_patiently("/order")
        old = Path(first.ask("/file")["path"])
        first.wait_until(lambda page: page["orders_total"] == 1)
    assert old.exists()
    with serve("uvicorn", tmp_path, free_port) as second:
        second.wait_until(lambda page: page["orders_total"] == 0)
        new = Path(second.ask("/file")["path"])

    assert not old.exists()
    assert new.exists()


def test_a_single_process_has_no_file(tmp_path, free_port, monkeypatch):
    monkeypatch.setitem(
        SERVERS, "single", ["uvicorn", "shop:app", "--port", "{port}", "--log-level", "error"]
    )
    with serve("single", tmp_path, free_port) as running:
        assert running.ask("/file")["path"] is None


def test_a_file_that_cannot_be_written_leaves_each_worker_its_own_counts(tmp_path, free_port, monkeypatch):
    monkeypatch.setenv("UPSHIFT_METRICS_FILE", str(tmp_path / "missing" / "totals"))
    with serve("uvicorn", tmp_path, free_port) as running:
        for _ in range(5):
            running.get_patiently("/order")
        assert running.wait_until(lambda page: page["orders_total"] > 0)["orders_total"] <= 5


def carts_of(page: dict[str, float]) -> float:
    """Requests of the inner application, by either's page."""
    counts = (
        value
        for name, value in page.items()
        if name.startswith("http_server_request_duration_seconds_count") and '"/inner/cart"' in name
    )
    return sum(counts)


@pytest.mark.parametrize("server", ["uvicorn", "gunicorn, preloaded"])
def test_two_upshifts_of_one_name_in_each_worker_are_each_added_up_alone(tmp_path, free_port, server):
    with serve(server, tmp_path, free_port, NESTED) as running:
        ask_both(running)
        answered = [running.ask("/inner/cart")["pid"] for _ in range(20)]
        while len(set(answered)) < 2:
            answered.append(running.ask("/inner/cart")["pid"])
        for path in ("/metrics", "/inner/metrics"):
            page = running.wait_until(lambda page: carts_of(page) >= len(answered), path)
            assert carts_of(page) == len(answered)
            running.wait_until(lambda page: page["server_processes"] == 2, path)

    assert len(list((tmp_path / "tmp").glob("upshift-*"))) == 2


def is_alone(page: dict[str, float]) -> bool:
    """Whether there are the two workers, and no request is open."""
    active = [value for name, value in page.items() if name.startswith("http_server_active_requests")]
    return page["server_processes"] == 2 and not any(active)


def test_a_child_forked_in_a_request_is_no_worker(tmp_path, free_port):
    with serve("uvicorn", tmp_path, free_port, NESTED) as running:
        seen = ask_both(running)
        assert running.ask("/fork")["pid"] not in seen
        running.wait_until(is_alone)
        until = time.monotonic() + 2.5 * FLUSH_SECONDS
        while time.monotonic() < until:
            assert is_alone(running.scrape())
            time.sleep(0.1)
