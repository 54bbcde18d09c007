"""`upshift serve`: an application with Upshift around it, without a change to its code."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager

import pytest


@pytest.fixture
def url(shop):
    url = f"sqlite:///{shop / 'served.db'}"
    environment = {**os.environ, "DATABASE_URL": url}
    subprocess.run([sys.executable, "-c", "import shop; shop.fill()"], cwd=shop, env=environment, check=True)
    return url


@contextmanager
def served(folder, url, *options):
    """The address of the shop, served."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "upshift", "serve", "shop:app", "--port", str(port), *options]
    with subprocess.Popen(command, cwd=folder, env={**os.environ, "DATABASE_URL": url}) as server:
        try:
            deadline = time.monotonic() + 30
            while time.monotonic() < deadline and server.poll() is None:
                with socket.socket() as connection:
                    if connection.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.05)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()


def ask(url):
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.headers, answer.read()


def test_responses_of_the_paths_that_are_named_are_stored(shop, url, tmp_path):
    page = tmp_path / "cache.page"
    options = ("--responses", "/authors/*", "--responses", "/nothing", "--cache-page", str(page))
    with served(shop, url, *options) as address:
        for _ in range(2):
            headers, body = ask(f"{address}/authors/7")
            other, _ = ask(f"{address}/authors")

    assert headers["age"] == "0"
    assert body == b'{"id":7}'
    assert other["age"] is None
    assert page.exists()


def test_what_has_been_loaded_is_kept_from_the_garbage_collector(shop, url):
    with (shop / "shop.py").open("a") as code:
        code.write("""
import gc

@app.get("/frozen")
def frozen() -> dict[str, int]:
    return {"frozen": gc.get_freeze_count()}
""")
    with served(shop, url) as address:
        _, body = ask(f"{address}/frozen")

    assert json.loads(body)["frozen"] > 10_000


def test_nothing_is_stored_unasked(shop, url):
    with served(shop, url) as address:
        for _ in range(2):
            headers, _ = ask(f"{address}/authors/7")

    assert headers["age"] is None
    assert headers["etag"] is None
