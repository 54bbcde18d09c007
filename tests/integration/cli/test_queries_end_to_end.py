"""A FastAPI application under uvicorn on PostgreSQL: asked while it runs, recorded, replayed afterwards."""

from __future__ import annotations

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
from pathlib import Path

import pytest
import sqlalchemy as sa
from click.testing import CliRunner

from upshift.cli import commands

SHOP = """
import os
from contextlib import asynccontextmanager

from fastapi import FastAPI, WebSocket
from sqlalchemy import ForeignKey, select, text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship
import sqlalchemy as sa

from upshift import Upshift


class Base(DeclarativeBase): ...


class Customer(Base):
    __tablename__ = "customer"
    id: Mapped[int] = mapped_column(primary_key=True)


class Order(Base):
    __tablename__ = "purchase"
    id: Mapped[int] = mapped_column(primary_key=True)
    customer_id: Mapped[int] = mapped_column(ForeignKey("customer.id"))
    customer: Mapped[Customer] = relationship()


engine = sa.create_engine(os.environ["DATABASE_URL"])
asynchronous = create_async_engine(os.environ["DATABASE_URL"])


@asynccontextmanager
async def lifespan(app):
    with up.record_to("shop-{pid}.recording"):
        yield


app = FastAPI(lifespan=lifespan)
up = Upshift(app, engine=[engine, asynchronous], keep_parameters=True, sample_rate=1.0, service="shop")


@app.get("/orders")
def orders():
    with Session(engine) as session:
        return [order.customer.id for order in session.scalars(select(Order).order_by(Order.id).limit(8))]


@app.get("/orders/{order_id}")
async def order(order_id: int):
    async with AsyncSession(asynchronous) as session:
        return (await session.get(Order, order_id)).customer_id


@app.get("/fails")
def fails():
    with engine.connect() as connection:
        connection.execute(text("SELECT nothing FROM nowhere"))
"""
TABLES = """
    CREATE TABLE customer (id int PRIMARY KEY);
    INSERT INTO customer SELECT generate_series(1, 50);
    CREATE TABLE purchase (id int PRIMARY KEY, customer_id int);
    INSERT INTO purchase SELECT i, mod(i, 50) + 1 FROM generate_series(1, 500) i;
    ANALYZE;
"""
LINES = dict(enumerate(SHOP.splitlines(), 1))


@pytest.fixture
def shop(tmp_path, postgres_database):
    engine = sa.create_engine(postgres_database, poolclass=sa.NullPool)
    with engine.begin() as connection:
        connection.exec_driver_sql(TABLES)
    (tmp_path / "shop.py").write_text(SHOP)
    return tmp_path


@contextmanager
def served(folder, database):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "shop:app", "--port", str(port), "--log-level", "critical"]
    environment = {**os.environ, "DATABASE_URL": database}
    with subprocess.Popen(command, cwd=folder, env=environment) as process:
        url = f"http://127.0.0.1:{port}"
        try:
            wait_for(url)
            yield url, process
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(30)


def wait_for(url):
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{url}/livez"):
                return
        except OSError:
            time.sleep(0.1)
    raise TimeoutError(url)


def get(url, **headers):
    request = urllib.request.Request(
        url, headers={name.replace("_", "-"): each for name, each in headers.items()}
    )
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def upshift(folder, *arguments):
    command = [sys.executable, "-m", "upshift", *arguments]
    return subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "COLUMNS": "80"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def told(shop, monkeypatch):
    """Run a command in this process, which spares the second that another takes to start."""
    monkeypatch.chdir(shop)

    def run(*arguments):
        result = CliRunner().invoke(
            commands.upshift, arguments, env={"COLUMNS": "80"}, catch_exceptions=False
        )
        assert result.exit_code == 0, result.stderr
        return result.stdout

    return run


def line_of(text):
    return next(number for number, line in LINES.items() if text in line)


def test_what_runs_is_told_recorded_and_replayed(shop, told, postgres_database):
    with served(shop, postgres_database) as (url, _):
        for number in range(1, 21):
            assert get(f"{url}/orders")[0] == 200
            assert get(f"{url}/orders/{number}")[0] == 200
        assert get(f"{url}/fails")[0] == 500

        asked = upshift(shop, "queries", url, "--format", "json", "--sort", "count")
        assert asked.returncode == 0, asked.stderr
        document = json.loads(asked.stdout)
        lazy = document["statements"][0]
        assert (lazy["count"], lazy["routes"]) == (160, {"GET /orders": 160})
        lazy_line = line_of("return [order.customer")
        assert [(each["file"], each["line"]) for each in lazy["sites"]] == [("shop.py", lazy_line)]
        assert document["executions"] == 160 + 20 + 20 + 1

        errors = json.loads(told("queries", url, "--format", "json", "--sort", "errors"))
        assert list(errors["statements"][0]["errors"].values()) == [1]

        table = told("queries", url, "--route", "/orders/{order_id}")
        assert f"shop.py:{line_of('session.get(Order')} order" in table
        assert "purchase.customer_id" in table
        assert max(map(len, table.splitlines())) <= 80

        assert get(f"{url}/upshift/queries", x_forwarded_for="127.0.0.1")[0] == 403
        assert get(f"{url}/upshift/queries", host="shop.example")[0] == 403
        assert get(f"{url}/upshift/queries?sort=name")[0] == 400
        scrape = get(f"{url}/metrics")[1].decode()
        faults = [line for line in scrape.splitlines() if line.startswith("upshift_faults_total{")]
        assert faults
        assert all(line.endswith(" 0.0") for line in faults)

    (recording,) = Path(shop).glob("shop-*.recording")
    replayed = upshift(shop, "replay", recording.name, "--format", "json")
    assert replayed.returncode == 0, replayed.stderr
    findings = json.loads(replayed.stdout)["findings"]
    assert [each["location"]["line"] for each in findings if each["code"] == "UP101"] == [lazy_line]
    assert "select(Order).options(selectinload(Order.customer))" in findings[0]["fix"][0]

    again = told("replay", recording.name, "--database", postgres_database, "--format", "json")
    sent = json.loads(again)["statements"]
    assert [(each["note"], each["recorded_rows"] == each["rows"]) for each in sent] == [("", True)] * 3

    same = json.loads(told("queries", recording.name, "--format", "json", "--sort", "count"))
    assert [row["count"] for row in same["statements"]] == [row["count"] for row in document["statements"]]


def test_a_server_that_is_killed_leaves_a_recording(shop, postgres_database):
    with served(shop, postgres_database) as (url, process):
        for _ in range(20):
            assert get(f"{url}/orders")[0] == 200
        time.sleep(0.5)  # a tenth is what a record waits at most
        process.kill()
        process.wait(30)
    (recording,) = Path(shop).glob("shop-*.recording")
    told = upshift(shop, "queries", recording.name)
    assert told.returncode == 0, told.stderr
    assert "180 executions" in told.stdout
    assert "killed" in told.stdout
