"""A real Prometheus reads what we expose, and its linter has nothing to say of it.

Debian's package `prometheus` has both programs; where they are missing these tests are skipped.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlencode

import pytest
from starlette.testclient import TestClient

pytestmark = pytest.mark.skipif(
    shutil.which("prometheus") is None or shutil.which("promtool") is None,
    reason="prometheus and promtool are not installed; Debian has both in its package `prometheus`",
)

APPLICATION = """
import os
from fastapi import FastAPI, WebSocket
from fastapi.responses import StreamingResponse
from sqlalchemy import create_engine, text
from sqlalchemy.pool import StaticPool
from starlette.routing import Mount
from upshift import Upshift

engine = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
inner = FastAPI()
app = FastAPI(routes=[Mount("/tenants/{tenant}", inner)])
up = Upshift(app, engine=engine, service="shop")
placed = up.metrics.counter("orders_placed", "Orders placed", unit="orders", labels={"channel": ("web",)})
revenue = up.metrics.counter("revenue", "Money taken", unit="dollars")
basket = up.metrics.histogram("basket", "Goods in a basket", unit="goods", buckets=(1, 5, 10))
stock = up.metrics.gauge("stock_ratio", "Share of the goods that are in stock")

@app.get("/orders/{order_id}")
async def order(order_id: int) -> int:
    placed.add(channel="web")
    revenue.add(9.5)
    basket.observe(3)
    stock.set(0.9)
    with engine.connect() as connection:
        connection.execute(text("SELECT 1")).all()
    return os.getpid()

@app.get("/stream")
async def stream() -> StreamingResponse:
    async def parts():
        yield b"one"
        yield b"two"
    return StreamingResponse(parts())

@app.get("/fails")
async def fails() -> None:
    raise LookupError("no such thing")

@app.websocket("/socket")
async def talk(socket: WebSocket) -> None:
    await socket.accept()
    await socket.send_text("hello")
    await socket.close()

@inner.get("/carts/{cart_id}")
async def cart(cart_id: int) -> int:
    return cart_id
"""
ORDERS = 'http_server_request_duration_seconds_count{http_route="/orders/{order_id}"}'
TRACE = "0af7651916cd43dd8448eb211c80319c"


def get(url: str, headers: dict[str, str] | None = None) -> bytes:
    request = urllib.request.Request(url, headers={"connection": "close"} | (headers or {}))
    with urllib.request.urlopen(request, timeout=10) as response:
        return response.read()


def patiently(ask, process: subprocess.Popen, folder: Path):
    """Ask until there is an answer that is something."""
    deadline = time.monotonic() + 40
    while True:
        try:
            if answer := ask():
                return answer
        except OSError:
            pass
        log = (folder / "log").read_text()
        assert process.poll() is None, f"the process ended: {log}"
        assert time.monotonic() < deadline, f"it does not come: {log}"
        time.sleep(0.1)


def free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return bound.getsockname()[1]


@contextmanager
def running(folder: Path, *command: str, **variables: str):
    """A process in a folder of its own, which is also its temporary folder."""
    folder.mkdir()
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=os.environ | {"TMPDIR": str(folder)} | variables,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)


@contextmanager
def serve(folder: Path, workers: int):
    """The application under uvicorn; gives its address once it answers."""
    address = f"127.0.0.1:{(port := free_port())}"
    (folder / "shop.py").write_text(APPLICATION)
    command = [sys.executable, "-m", "uvicorn", "shop:app", "--port", str(port), "--workers", str(workers)]
    with running(folder / "server", *command, PYTHONPATH=str(folder)) as server:
        patiently(lambda: get(f"http://{address}/metrics"), server, folder / "server")
        yield address


class Prometheus:
    """A Prometheus that scrapes one address five times a second."""

    def __init__(self, process: subprocess.Popen, folder: Path, port: int) -> None:
        self._process = process
        self._folder = folder
        self._url = f"http://127.0.0.1:{port}/api/v1/"

    def ask(self, path: str, **arguments: object) -> list:
        return json.loads(get(f"{self._url}{path}?{urlencode(arguments)}"))["data"]

    def wait_for(self, query: str, value: float) -> None:
        """Wait until a query for the sum of some series has this result."""

        def is_so() -> bool:
            result = self.ask("query", query=f"sum({query})")["result"]
            return [float(each["value"][1]) for each in result] == [value]

        patiently(is_so, self._process, self._folder)

    def exemplars(self, query: str) -> set[str]:
        def ask() -> set[str]:
            now = time.time()
            found = self.ask("query_exemplars", query=query, start=now - 600, end=now + 600)
            return {each["labels"]["trace_id"] for series in found for each in series["exemplars"]}

        return patiently(ask, self._process, self._folder)


@contextmanager
def prometheus(folder: Path, address: str):
    config = {
        "global": {"scrape_interval": "200ms", "scrape_timeout": "200ms"},
        "scrape_configs": [{"job_name": "shop", "static_configs": [{"targets": [address]}]}],
    }
    (folder / "prometheus.json").write_text(json.dumps(config))  # JSON is YAML
    port = free_port()
    command = [
        "prometheus",
        f"--config.file={folder / 'prometheus.json'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--enable-feature=exemplar-storage",
    ]
    with running(folder / "prometheus", *command) as process:
        yield Prometheus(process, folder / "prometheus", port)


def test_the_linter_of_prometheus_has_nothing_to_say():
    namespace = {}
    exec(APPLICATION, namespace)
    client = TestClient(namespace["app"], raise_server_exceptions=False)
    for path in ("/orders/1", "/stream", "/fails", "/nowhere", "/tenants/acme/carts/2"):
        client.get(path)
    client.request("BREW", "/orders/2")
    with client.websocket_connect("/socket") as connection:
        connection.receive_text()
    page = client.get("/metrics").content
    namespace["up"].close()

    assert b'http_route="/tenants/{tenant}/carts/{cart_id}"' in page
    assert b'error_type="LookupError"' in page
    checked = subprocess.run(["promtool", "check", "metrics"], input=page, capture_output=True, check=False)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


def test_prometheus_reads_counts_and_exemplars_of_a_server(tmp_path):
    with serve(tmp_path, workers=1) as address, prometheus(tmp_path, address) as server:
        for number in range(5):
            get(f"http://{address}/orders/{number}", {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"})
        get(f"http://{address}/tenants/acme/carts/1")

        server.wait_for(ORDERS, 5)
        server.wait_for(
            'http_server_request_duration_seconds_count{http_route="/tenants/{tenant}/carts/{cart_id}"}', 1
        )
        server.wait_for('orders_placed_total{channel="web"}', 5)
        assert server.exemplars("http_server_request_duration_seconds_bucket") == {TRACE}


def test_several_workers_are_one_target_whose_counts_never_fall(tmp_path):
    with serve(tmp_path, workers=2) as address, prometheus(tmp_path, address) as server:
        answered_by = [get(f"http://{address}/orders/1") for _ in range(40)]
        while len(set(answered_by)) < 2:
            assert len(answered_by) < 1000, "one worker answers all"
            answered_by.append(get(f"http://{address}/orders/1"))
        total = len(answered_by)

        server.wait_for(ORDERS, total)
        scrapes = server.ask("query", query="sum(count_over_time(up[1m]))")["result"]
        server.wait_for(f"count_over_time(up[1m]) > bool {float(scrapes[0]['value'][1]) + 5}", 1)
        server.wait_for(ORDERS, total)
        server.wait_for(f"resets({ORDERS}[1m])", 0)
        server.wait_for("min_over_time(up[1m])", 1)
