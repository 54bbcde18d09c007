"""Several workers of one server: none serves what another has outdated, and their counts are one."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager

import pytest

from upshift.testing.servers.supervision import free_port

SHOP = """
import os

import sqlalchemy as sa
from fastapi import FastAPI

from upshift import Cache, Upshift

engine = sa.create_engine("sqlite:///shop.db", connect_args={"timeout": 30})
app = FastAPI()
up = Upshift(app, engine=engine, cache=Cache())


@up.cache.cached(namespace="dishes")
def dishes() -> int:
    with engine.connect() as connection:
        return connection.scalar(sa.text("SELECT count(*) FROM dish"))


@app.get("/dishes")
def read():
    return {"dishes": dishes(), "pid": os.getpid(), "place": up.cache.state().place}


@app.post("/dishes")
def add():
    with engine.begin() as connection:
        connection.execute(sa.text("INSERT INTO dish VALUES ('rice')"))
        return connection.scalar(sa.text("SELECT count(*) FROM dish"))
"""

SERVERS = {
    "uvicorn": ["uvicorn", "shop:app", "--workers", "2", "--port"],
    "gunicorn, loaded before it forks": [
        "gunicorn", "shop:app", "--preload", "--no-control-socket", "--workers", "2",
        "--worker-class", "uvicorn.workers.UvicornWorker", "--bind",
    ],
}  # fmt: skip


@contextmanager
def serving(name, folder):
    (folder / "shop.py").write_text(SHOP)
    create = "import sqlite3; sqlite3.connect('shop.db').execute('CREATE TABLE dish (name text)')"
    subprocess.run([sys.executable, "-c", create], cwd=folder, check=True)
    port = free_port()
    place = f"127.0.0.1:{port}" if SERVERS[name][-1] == "--bind" else str(port)
    with subprocess.Popen(
        [sys.executable, "-m", *SERVERS[name], place],
        cwd=folder,
        env={**os.environ, "TMPDIR": str(folder)},
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as server:
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            server.send_signal(signal.SIGTERM)
            try:
                server.communicate(timeout=30)
            except subprocess.TimeoutExpired:
                os.killpg(server.pid, signal.SIGKILL)
                server.communicate()


def ask(url, method="GET"):
    # A connection for each, so that another worker may have it.
    with urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=30) as answer:
        return answer.read().decode()


def until(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while True:
        try:
            if condition():
                return
        except (OSError, urllib.error.URLError):
            pass
        assert time.monotonic() < deadline
        time.sleep(0.05)


def read(url):
    dishes, pid, place = re.fullmatch(
        r'\{"dishes":(\d+),"pid":(\d+),"place":"(\w+)"\}', ask(f"{url}/dishes")
    ).groups()
    assert place == "page"
    return int(dishes), int(pid)


@pytest.mark.parametrize("name", SERVERS)
def test_no_worker_serves_what_another_has_outdated_and_their_counts_are_one(name, tmp_path):
    pids, calls = set(), 0

    with serving(name, tmp_path) as url:
        until(lambda: ask(f"{url}/livez"))

        def both_answer():
            nonlocal calls
            calls += 1
            pids.add(read(url)[1])
            return len(pids) == 2

        until(both_answer)
        for _ in range(20):
            written = int(ask(f"{url}/dishes", "POST"))
            for _ in range(3):
                calls += 1
                assert read(url)[0] >= written

        def are_counted():
            page = ask(f"{url}/metrics")
            counts = re.findall(
                r'^upshift_cache_(hits|misses|joined)_total\{cache_name="dishes"\} (\S+)$', page, re.MULTILINE
            )
            return sum(float(count) for _, count in counts) == calls

        until(are_counted)
