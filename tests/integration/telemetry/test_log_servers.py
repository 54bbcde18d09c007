"""Logs of real servers: one access line a request, with the id that the response carries."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager

import pytest

APPLICATION = """
import logging, os
from contextlib import asynccontextmanager
from contextvars import ContextVar
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from upshift.record import Backlog, Recorder
from upshift.settings import LogSettings
from upshift.telemetry.logs import install

current = ContextVar("current", default=None)
rotation = {"log_rotate_bytes": 20_000, "log_rotate_count": 1_000}
settings = LogSettings(log_format="json", log_file=os.environ["LOG"], **rotation)
logs = install(settings, service="shop", current=current, slow_request_seconds=1.0)
backlog = Backlog([logs.access.take], after=[logs.access.flush])

async def order(request):
    current.get().context = {"user": 7}
    logging.getLogger("shop").info("looked at %s", request.path_params["order_id"])
    return PlainTextResponse("ok")

async def broken(request):
    raise ValueError("odd")

@asynccontextmanager
async def lifespan(app):
    logs.take_over()
    yield
    backlog.drain()
    logs.close()

inner = Starlette(routes=[Route("/orders/{order_id}", order), Route("/broken", broken)], lifespan=lifespan)
app = Recorder(inner, backlog.add, current)
"""


@contextmanager
def serving(tmp_path, *options):
    (tmp_path / "shop.py").write_text(APPLICATION)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = os.environ | {"LOG": str(tmp_path / "shop.log")}
    command = [sys.executable, "-m", "uvicorn", "shop:app", "--port", str(port), *options]
    server = subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                get(port, "/orders/0")
                break
            except urllib.error.URLError:
                assert time.monotonic() < deadline
                time.sleep(0.05)
        yield port
        server.send_signal(signal.SIGTERM)
        assert server.wait(30) in {0, -signal.SIGTERM}
    finally:
        server.kill()
        server.communicate()


def get(port, path):
    """The request id of the response."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as response:
            return response.headers["x-request-id"]
    except urllib.error.HTTPError as error:
        with error:
            return error.headers["x-request-id"]


def lines_of(tmp_path):
    files = [
        each for each in tmp_path.iterdir() if each.name.startswith("shop.log") and each.suffix != ".lock"
    ]
    return [json.loads(line) for file in files for line in file.read_bytes().splitlines()]


def test_a_request_has_its_line_and_those_within_it_by_the_id_of_its_response(tmp_path):
    with serving(tmp_path) as port:
        request_id = get(port, "/orders/7")

    lines = [each for each in lines_of(tmp_path) if each.get("request_id") == request_id]
    within, access = sorted(lines, key=lambda each: each["logger"])
    assert (within["logger"], within["message"]) == ("shop", "looked at 7")
    assert (access["method"], access["route"], access["status"]) == ("GET", "/orders/{order_id}", 200)
    assert access["user"] == 7
    assert access["response_bytes"] == 2


def test_a_request_that_raises_is_an_error_beside_the_servers_own_words(tmp_path):
    with serving(tmp_path) as port:
        request_id = get(port, "/broken")

    lines = lines_of(tmp_path)
    (access,) = [each for each in lines if each["logger"] == "upshift.access" and each["level"] == "error"]
    assert (access["path"], access["status"], access["error"]) == ("/broken", 500, "ValueError")
    assert access["request_id"] == request_id
    (told,) = [each for each in lines if each["logger"] == "uvicorn.error" and each["level"] == "error"]
    assert (told["error"], told["error_message"]) == ("ValueError", "odd")


@pytest.mark.parametrize("workers", [1, 2])
def test_every_request_has_one_line_and_uvicorn_none(tmp_path, workers):
    with serving(tmp_path, "--workers", str(workers)) as port:
        ids = [get(port, f"/orders/{number}") for number in range(200)]

    access = [each for each in lines_of(tmp_path) if each["logger"] == "upshift.access"]
    assert sorted(each["request_id"] for each in access if each["path"] != "/orders/0") == sorted(ids[1:])
    assert not any(each["logger"] == "uvicorn.access" for each in lines_of(tmp_path))


def test_nothing_that_is_said_while_the_process_ends_is_lost(tmp_path):
    """Uvicorn ends by the signal that it was sent, so nothing else is done at exit."""
    (tmp_path / "shop.py").write_text(
        "import logging\n"
        "from fastapi import FastAPI\n"
        "from upshift import Upshift\n"
        "app = FastAPI()\n"
        "up = Upshift(app, log_format='json', log_file='shop.log')\n"
        "up.lifespan.at_end(lambda: logging.getLogger('shop').info('the last of mine'))\n"
    )
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "uvicorn", "shop:app", "--port", str(port)],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/livez", timeout=5).close()
                break
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.1)
        server.terminate()
        server.wait(20)
    finally:
        server.kill()
        server.wait(10)
    said = [json.loads(line)["message"] for line in (tmp_path / "shop.log").read_text().splitlines()]
    assert said[-3] == "the last of mine"
    assert said[-2] == "Application shutdown complete."
    assert said[-1].startswith("Finished server process")
