"""Ctrl-C: real processes, real signals, at moments that the test knows to be bad ones."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest
from sqlalchemy import create_engine, make_url, text

from upshift.sql import Index, IndexAdvice
from upshift.sql.indexes.advice import Served
from upshift.sql.indexes.index import IndexColumn

SECONDS = 30


@pytest.fixture
def start(tmp_path):
    """Start `upshift` in the folder of the application; what is still running at the end is killed."""
    started = []

    def start(*arguments, **variables):
        process = subprocess.Popen(
            [sys.executable, "-m", "upshift", *arguments],
            cwd=tmp_path,
            env={**os.environ, **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(("library", "command"), [("click", "explain"), ("sqlalchemy", "find")])
def test_while_libraries_are_imported_it_ends_with_a_message(start, tmp_path, library, command):
    (tmp_path / "slow" / library).mkdir(parents=True)
    slow = f"import time; print('importing', flush=True); time.sleep({SECONDS})"
    (tmp_path / "slow" / library / "__init__.py").write_text(slow)
    process = start(command, "shop:app", PYTHONPATH=str(tmp_path / "slow"))

    assert process.stdout.readline() == "importing\n"
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=SECONDS / 2)

    assert (process.returncode, told) == (130, "upshift: interrupted\n")


BLOCKED = """
import asyncio, os, signal, sys, time
from fastapi import FastAPI
from sqlalchemy import create_engine, text
from sqlalchemy.ext.asyncio import create_async_engine

app = FastAPI()

def say(where):
    print(where, flush=True)
"""

ENDPOINTS = {
    "a sync endpoint waits for a statement": """
engine = create_engine(os.environ["DATABASE_URL"])
@app.get("/report")
def report():
    with engine.connect() as connection:
        say("blocked")
        connection.execute(text("SELECT pg_sleep(40)"))
""",
    "an async endpoint blocks the event loop": """
@app.get("/report")
async def report():
    say("blocked")
    time.sleep(40)
""",
    "a thread of the event loop's hangs": """
@app.get("/report")
async def report():
    say("blocked")
    await asyncio.to_thread(time.sleep, 40)
""",
    "the lifespan does not end": """
from contextlib import asynccontextmanager
@asynccontextmanager
async def lifespan(app):
    yield
    await asyncio.sleep(40)
app.router.lifespan_context = lifespan
@app.get("/report")
async def report():
    say("blocked")
    await asyncio.sleep(40)
""",
    "the application is imported": """
say("blocked")
time.sleep(40)
""",
}


@pytest.mark.parametrize("where", ENDPOINTS)
@pytest.mark.parametrize("times", [1, 2])
def test_while_the_application_works_it_ends_with_a_message(start, tmp_path, postgres_database, where, times):
    (tmp_path / "shop.py").write_text(BLOCKED + ENDPOINTS[where])
    process = start("find", "shop:app", DATABASE_URL=postgres_database)

    assert process.stdout.readline() == "blocked\n"
    started = time.monotonic()
    for _ in range(times):
        process.send_signal(signal.SIGINT)
        time.sleep(0.5)
    _, told = process.communicate(timeout=SECONDS / 2)

    assert told == "upshift: interrupted\n"
    # The second may come when the interpreter is gone but for the process, and end that.
    assert process.returncode in ({130} if times == 1 else {130, -signal.SIGINT})
    assert time.monotonic() - started < 10


SLEEPING = {
    "psycopg": ENDPOINTS["a sync endpoint waits for a statement"],
    "asyncpg": """
engine = create_async_engine(os.environ["DATABASE_URL"])
@app.get("/report")
async def report():
    async with engine.connect() as connection:
        say("blocked")
        await connection.execute(text("SELECT pg_sleep(40)"))
""",
}


def sleeping(engine):
    with engine.connect() as connection:
        query = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%'"
        return connection.scalar(text(query + " AND state = 'active'"))


def wait_until(is_so):
    deadline = time.monotonic() + SECONDS / 2
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
def test_no_statement_goes_on_at_the_database(start, tmp_path, postgres_server, postgres_database, driver):
    url = make_url(postgres_database)
    (tmp_path / "shop.py").write_text(BLOCKED + SLEEPING[driver])
    process = start("find", "shop:app", DATABASE_URL=postgres_server.url(url.database, driver=driver))

    assert process.stdout.readline() == "blocked\n"
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    wait_until(lambda: sleeping(engine))
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=SECONDS / 2)

    assert process.returncode == 130
    assert not sleeping(engine)
    engine.dispose()


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
def test_a_database_that_never_answers_is_told_and_holds_nothing_up(start, tmp_path, driver):
    create = "create_engine" if driver == "psycopg" else "create_async_engine"
    (tmp_path / "shop.py").write_text(BLOCKED + f"engine = {create}(os.environ['DATABASE_URL'])")
    program = "from upshift.cli import boot, main; boot.CONNECT_SECONDS = 0.5; main()"
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql+{driver}://shop:secret@127.0.0.1:{silent.getsockname()[1]}/shop"
        finished = subprocess.run(
            [sys.executable, "-c", program, "find", "shop:app"],
            cwd=tmp_path,
            env={**os.environ, "DATABASE_URL": url},
            capture_output=True,
            text=True,
            timeout=SECONDS / 2,
            check=False,
        )

    assert finished.returncode == 2
    assert finished.stderr.startswith(f"upshift: postgresql+{driver}://shop:***@")
    assert finished.stderr.endswith("did not answer within 0 s\n")


def test_while_a_database_does_not_answer_it_ends_with_a_message(start, tmp_path):
    (tmp_path / "shop.py").write_text(BLOCKED + "engine = create_engine(os.environ['DATABASE_URL'])")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql+psycopg://shop:secret@127.0.0.1:{silent.getsockname()[1]}/shop"
        process = start("find", "shop:app", DATABASE_URL=url)
        silent.settimeout(SECONDS / 2)
        connection, _ = silent.accept()
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=SECONDS / 2)
        connection.close()

    assert (process.returncode, told) == (130, "upshift: interrupted\n")


@pytest.fixture
def findings(tmp_path, postgres_database):
    """A file that advises an index on a table that is free, then one on a table that a session holds."""
    engine = create_engine(postgres_database, isolation_level="AUTOCOMMIT")
    advised = [Index("postgresql", table, (IndexColumn("id"),)) for table in ("free", "held")]
    with engine.connect() as connection:
        for index in advised:
            connection.execute(text(f"CREATE TABLE {index.table} (id INT)"))
    data = [IndexAdvice(index, (Served("", 9, 1, (), ()),), "planner cost", "copy") for index in advised]
    document = {"version": 1, "findings": [{"code": "UP201", "data": each.to_dict()} for each in data]}
    (tmp_path / "findings.json").write_text(json.dumps(document))
    with engine.connect() as holder, holder.execution_options(isolation_level="READ COMMITTED"):
        holder.execute(text("INSERT INTO held VALUES (1)"))
        yield engine, [index.name for index in advised]
    engine.dispose()


CREATE = "CREATE INDEX CONCURRENTLY "
DROP = "DROP INDEX CONCURRENTLY IF EXISTS "


def busy_with(engine, statement):
    with engine.connect() as connection:
        query = text("SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE :start")
        return connection.scalar(query, {"start": statement + "%"})


def test_an_unfinished_index_is_named_each_time_and_so_are_the_finished_ones(start, findings):
    engine, (free, held) = findings
    command = ("index", "apply", "--from", "findings.json")
    url = engine.url.render_as_string(hide_password=False)
    for did, waits_in in (("built", CREATE), ("kept ", DROP)):
        process = start(*command, DATABASE_URL=url)
        wait_until(lambda waits_in=waits_in: busy_with(engine, waits_in + held))
        process.send_signal(signal.SIGINT)
        done, told = process.communicate(timeout=SECONDS)

        assert done == f"{did}   {free}\n"
        assert f"building was interrupted; {held} is unfinished" in told
        assert "`upshift index apply --undo` removes it later" in told
        assert process.returncode == 2


def test_an_unfinished_index_is_named_though_the_cleaning_is_interrupted_too(start, findings):
    engine, (_, held) = findings
    process = start(
        "index",
        "apply",
        "--from",
        "findings.json",
        DATABASE_URL=engine.url.render_as_string(hide_password=False),
    )
    wait_until(lambda: busy_with(engine, CREATE + held))
    process.send_signal(signal.SIGINT)
    wait_until(lambda: busy_with(engine, DROP + held))
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=SECONDS)

    assert f"building was interrupted; {held} is unfinished (interrupted again)" in told
    assert "Traceback" not in told
