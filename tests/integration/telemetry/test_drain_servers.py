"""The way out on SIGTERM under real servers: what is under way ends well, and nothing is left behind."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest

APPLICATION = """
import asyncio, contextlib, os, threading
from pathlib import Path

from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from upshift.settings import HealthSettings
from upshift.telemetry.endpoints import Endpoints
from upshift.telemetry.health import Health, probe_endpoints
from upshift.telemetry.lifespan import Lifespan


def say(what):
    with Path("said").open("a") as said:
        said.write(f"{os.getpid()} {what}\\n")


@contextlib.asynccontextmanager
async def own(app):
    say("+app")
    yield {"shop": "open"}
    say("-app")


async def wait(request):
    say("waiting")
    while not Path("release").exists():
        await asyncio.sleep(0.02)
    return JSONResponse({"shop": request.state.shop})


async def index(request):
    return JSONResponse({"pid": os.getpid()})


bare = Starlette(routes=[Route("/", index), Route("/wait", wait)], lifespan=own)

settings = HealthSettings(drain_seconds=float(os.environ["DRAIN"]), shutdown_seconds=2.0)
lifespan = Lifespan(settings)
health = Health(settings, lambda: lifespan.phase)


def begin():
    say("+cache")
    if os.environ.get("BROKEN"):
        raise ConnectionError("redis://:rosebud@cache/0 refused")


lifespan.add("cache", begin, lambda: say("-cache"), needs=["database"])
lifespan.add("database", lambda: say("+database"), lambda: say("-database"))
lifespan.at_end(lambda: say("flushed"))
if os.environ.get("HANGS"):
    lifespan.add("thread", stop=threading.Event().wait)
    lifespan.add("task", stop=lambda: asyncio.sleep(3600))


async def web_only(scope, receive, send):
    assert scope["type"] == "http"
    await JSONResponse({"pid": os.getpid()})(scope, receive, send)


def observed(app):
    inner = Endpoints(lifespan.around(app), probe_endpoints(health))

    async def outer(scope, receive, send):
        await inner(scope, receive, send)

    return outer


app = observed(bare)
simple = observed(web_only)
"""

GUNICORN = ["gunicorn", "shop:{app}", "--bind", "127.0.0.1:{port}", "--no-control-socket", "--worker-class"]
GRANIAN = ["granian", "shop:{app}", "--interface", "asgi", "--port", "{port}"]
UVICORN = ["uvicorn", "shop:{app}", "--port", "{port}"]
SERVERS = {
    "uvicorn": UVICORN,
    "uvicorn, asyncio": [*UVICORN, "--loop", "asyncio"],
    "uvicorn, 2 workers": [*UVICORN, "--workers", "2"],
    "gunicorn": [*GUNICORN, "asgi", "--workers", "2"],
    "gunicorn, asyncio": [*GUNICORN, "asgi", "--asgi-loop", "asyncio"],
    "gunicorn, uvicorn": [*GUNICORN, "uvicorn.workers.UvicornWorker"],
    "granian": [*GRANIAN, "--workers", "2", "--loop", "uvloop"],
    "granian, asyncio": [*GRANIAN, "--loop", "asyncio"],
}


class Shop:
    """The application, served."""

    def __init__(self, name: str, server: subprocess.Popen[bytes], port: int, folder: Path) -> None:
        self.workers = 2 if "2" in SERVERS[name] else 1
        self.server = server
        self.folder = folder
        self._url = f"http://127.0.0.1:{port}"

    def get(self, path: str, seconds: float = 60) -> tuple[int, str]:
        """Return status and body; 0 where the server takes no connection."""
        try:
            with urllib.request.urlopen(self._url + path, timeout=seconds) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def wait_until(self, condition, seconds=40):
        deadline = time.monotonic() + seconds
        while not (outcome := condition()):
            assert time.monotonic() < deadline, (self.server.poll(), self.said(), self.errors())
            time.sleep(0.02)
        return outcome

    def wait_until_it_serves(self):
        """Wait until each worker has answered: servers lose a signal to one that has just been forked."""
        pids = set()

        def all_answer():
            status, body = self.get("/")
            if status == 200:
                pids.add(json.loads(body)["pid"])
            return len(pids) == self.workers

        self.wait_until(all_answer)

    def said(self):
        path = self.folder / "said"
        return [line.split() for line in path.read_text().splitlines()] if path.exists() else []

    def said_by_worker(self):
        by_worker = {}
        for pid, what in self.said():
            if what != "waiting":
                by_worker.setdefault(pid, []).append(what)
        return list(by_worker.values())

    def errors(self):
        return (self.folder / "stderr").read_text()

    def family(self):
        return psutil.Process(self.server.pid).children(recursive=True)

    def terminate(self, number=signal.SIGTERM):
        self.server.send_signal(number)


@contextmanager
def serve(name: str, folder: Path, port: int, app="app", **environment: str):
    if find_spec(SERVERS[name][0]) is None:
        pytest.skip(f"{SERVERS[name][0]} is not installed")
    (folder / "shop.py").write_text(APPLICATION)
    command = [part.format(port=port, app=app) for part in SERVERS[name]]
    with (folder / "stderr").open("wb") as stderr:
        server = subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(folder), "DRAIN": "0"} | environment,
            stdout=stderr,
            stderr=stderr,
        )
    shop = Shop(name, server, port, folder)
    try:
        yield shop
    finally:
        processes = [server, *shop.family()] if server.poll() is None else []
        for process in processes:
            with suppress(psutil.NoSuchProcess, ProcessLookupError):
                process.kill()
        server.wait(10)


@pytest.fixture
def free_port() -> int:
    import socket

    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return bound.getsockname()[1]


def usual_status(name: str, folder: Path, port: int) -> int:
    """The status with which the server ends without Upshift."""
    folder.mkdir()
    with serve(name, folder, port, "bare") as shop:
        shop.wait_until_it_serves()
        shop.terminate()
        return shop.server.wait(30)


@pytest.mark.parametrize("name", SERVERS)
def test_a_server_drains_ends_what_is_under_way_and_leaves_nothing_behind(name, tmp_path, free_port):
    usual = usual_status(name, tmp_path / "bare", free_port)
    with serve(name, tmp_path, free_port, DRAIN="2") as shop, ThreadPoolExecutor() as pool:
        shop.wait_until_it_serves()
        family = shop.family()
        under_way = pool.submit(shop.get, "/wait")
        shop.wait_until(lambda: ["waiting"] in [words[1:] for words in shop.said()])

        shop.terminate()
        shop.wait_until(lambda: shop.get("/readyz")[0] == 503)
        assert shop.get("/")[0] == 200  # who has not noticed yet is served
        assert shop.get("/livez") == (200, "ok")

        # The wait is over. Uvicorn's parent keeps the socket open, in which connections wait for nobody.
        shop.wait_until(lambda: shop.get("/", 2)[0] == 0)
        assert not under_way.done()
        assert shop.server.poll() is None
        (tmp_path / "release").touch()
        assert under_way.result(30) == (200, '{"shop":"open"}')

        assert shop.server.wait(30) == usual
        assert psutil.wait_procs(family, timeout=10)[1] == []
    started, ended = ["+database", "+cache", "+app"], ["-app", "-cache", "-database", "flushed"]
    assert shop.said_by_worker() == [started + ended] * shop.workers


@pytest.mark.parametrize("name", ["uvicorn", "gunicorn", "granian"])
def test_without_a_wait_a_server_ends_at_once(name, tmp_path, free_port):
    with serve(name, tmp_path, free_port) as shop:
        shop.wait_until_it_serves()
        shop.terminate()
        shop.server.wait(30)
    assert shop.said()[-1][1] == "flushed"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
@pytest.mark.parametrize("name", ["uvicorn", "uvicorn, asyncio"])
def test_a_second_signal_ends_the_wait(name, number, tmp_path, free_port):
    with serve(name, tmp_path, free_port, DRAIN="3600") as shop:
        shop.wait_until_it_serves()
        shop.terminate()
        shop.wait_until(lambda: shop.get("/readyz")[0] == 503)
        if number == signal.SIGTERM:
            time.sleep(1.1)  # until then it is taken for the same one
        shop.terminate(number)
        shop.server.wait(30)
    assert shop.said()[-1][1] == "flushed"


def test_what_is_sent_to_the_whole_group_does_not_end_the_wait(tmp_path, free_port):
    """As systemd does it; the parent then sends it to its workers once more."""
    with serve("uvicorn, 2 workers", tmp_path, free_port, DRAIN="2") as shop:
        shop.wait_until_it_serves()
        for worker in shop.family():
            with suppress(psutil.NoSuchProcess):
                worker.terminate()
        shop.terminate()
        shop.wait_until(lambda: shop.get("/readyz")[0] == 503)
        time.sleep(1)
        assert shop.get("/")[0] == 200
        shop.server.wait(30)
    assert [said[-1] for said in shop.said_by_worker()] == ["flushed"] * 2


@pytest.mark.parametrize("name", ["uvicorn", "gunicorn", "granian"])
def test_a_failed_start_ends_the_server_with_a_clear_message(name, tmp_path, free_port):
    with serve(name, tmp_path, free_port, BROKEN="1") as shop:
        assert shop.server.wait(40) != 0
        assert (
            "Upshift could not start 'cache': ConnectionError: redis://***@cache/0 refused" in shop.errors()
        )
    for said in shop.said_by_worker():
        assert said == ["+database", "+cache", "-database", "flushed"]


@pytest.mark.parametrize("name", ["uvicorn", "gunicorn", "granian"])
def test_an_application_without_a_lifespan_has_ours(name, tmp_path, free_port):
    with serve(name, tmp_path, free_port, app="simple", DRAIN="1") as shop:
        shop.wait_until_it_serves()
        assert shop.get("/readyz") == (200, "ok")
        shop.terminate()
        shop.wait_until(lambda: shop.get("/readyz")[0] == 503)
        shop.server.wait(30)
    for said in shop.said_by_worker():
        assert said == ["+database", "+cache", "-cache", "-database", "flushed"]


@pytest.mark.parametrize("name", ["uvicorn", "gunicorn", "granian"])
def test_what_hangs_at_the_end_does_not_keep_the_process(name, tmp_path, free_port):
    usual = usual_status(name, tmp_path / "bare", free_port)
    with serve(name, tmp_path, free_port, HANGS="1") as shop:
        shop.wait_until_it_serves()
        shop.terminate()
        assert shop.server.wait(30) == usual
        assert "stopping 'thread' was given up after" in shop.errors()
        assert "stopping 'task' was given up after" in shop.errors()
    for said in shop.said_by_worker():
        assert said[-3:] == ["-cache", "-database", "flushed"]
