from __future__ import annotations

import contextlib
import os
import signal
import socket
import stat
import sys
import threading
from pathlib import Path

import asyncpg
import psycopg
import pytest
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.ext.asyncio import create_async_engine

from upshift.errors import ServerUnavailableError
from upshift.testing.servers import postgres
from upshift.testing.servers import postgres_server as module
from upshift.testing.servers.binaries import PROGRAMS, Postgres, find_postgres

SETTINGS = {"shared_preload_libraries": "pg_stat_statements", "full_page_writes": "on"}


@pytest.fixture(scope="module")
def socket_server():
    with postgres(settings=SETTINGS) as running:
        yield running


@pytest.fixture(scope="module")
def tcp_server():
    with postgres(listen="tcp", settings=SETTINGS) as running:
        yield running


@pytest.fixture(params=["socket_server", "tcp_server"])
def server(request):
    return request.getfixturevalue(request.param)


def value(server, sql: str) -> object:
    engine = create_engine(server.url(driver="psycopg"))
    try:
        with engine.connect() as connection:
            return connection.scalar(text(sql))
    finally:
        engine.dispose()


def test_sqlalchemy_connects_with_psycopg(server):
    assert value(server, "SELECT 6 * 7") == 42


async def test_sqlalchemy_connects_with_asyncpg(server):
    engine = create_async_engine(server.url(driver="asyncpg"))
    async with engine.connect() as connection:
        assert await connection.scalar(text("SELECT 6 * 7")) == 42
    await engine.dispose()


async def test_drivers_connect_with_the_url_that_names_none(server):
    with psycopg.connect(server.url()) as connection:
        assert connection.execute("SELECT 6 * 7").fetchone() == (42,)
    connection = await asyncpg.connect(server.url())
    assert await connection.fetchval("SELECT 6 * 7") == 42
    await connection.close()


@pytest.mark.parametrize("name", ["shop", 'a "quoted" name', "naïve", "--help"])
def test_created_database_is_empty_and_gone_when_dropped(server, name):
    server.create_database(name)
    with psycopg.connect(server.url(), dbname=name) as connection:
        assert connection.execute("SELECT current_database()").fetchone() == (name,)
        tables = "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'public'"
        assert connection.execute(tables).fetchone() == (0,)
    server.drop_database(name)
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        psycopg.connect(server.url(), dbname=name)


def test_dropping_a_database_ends_its_connections(server):
    server.create_database("busy")
    connection = psycopg.connect(server.url("busy"))
    server.drop_database("busy")
    with contextlib.closing(connection), pytest.raises(psycopg.OperationalError):
        connection.execute("SELECT 1")


def test_creating_a_database_twice_says_so(server):
    server.create_database("twice")
    with pytest.raises(ServerUnavailableError, match='database "twice" already exists'):
        server.create_database("twice")


def test_text_is_utf_8_and_time_is_utc(server):
    assert value(server, "SHOW server_encoding") == "UTF8"
    assert value(server, "SHOW timezone") == "UTC"


def test_settings_reach_the_server_and_the_others_keep_their_defaults(server):
    assert value(server, "SHOW shared_preload_libraries") == "pg_stat_statements"
    assert value(server, "SHOW full_page_writes") == "on"
    assert value(server, "SHOW fsync") == "off"


def test_extensions_can_be_made(server):
    server.create_database("extended")
    with psycopg.connect(server.url("extended")) as connection:
        connection.execute("CREATE EXTENSION pg_stat_statements")
        assert connection.execute("SELECT count(*) > 0 FROM pg_stat_statements").fetchone() == (True,)


def test_a_socket_server_listens_on_no_port_and_its_directory_is_its_users_alone(socket_server):
    assert value(socket_server, "SHOW listen_addresses") == ""
    assert stat.S_IMODE(Path(socket_server.host).stat().st_mode) == 0o700


def test_a_tcp_server_refuses_whoever_does_not_know_its_password(tcp_server):
    url = make_url(tcp_server.url()).set(password="wrong").render_as_string(hide_password=False)
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(url)


def test_a_refused_setting_is_told_with_the_servers_own_words():
    with pytest.raises(ServerUnavailableError, match=r"unrecognized configuration parameter .*no_such"):
        postgres(settings={"no_such": "1"}).__enter__()


def test_another_port_is_tried_where_somebody_took_the_first(monkeypatch):
    free = module.free_port()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ports = iter([taken.getsockname()[1], free])
        monkeypatch.setattr(module, "free_port", lambda: next(ports))
        with postgres(listen="tcp") as server:
            assert server.port == free


def test_a_directory_that_cannot_be_made_is_named(monkeypatch, tmp_path):
    file = tmp_path / "file"
    file.touch(mode=0o777)
    monkeypatch.setattr(module, "new_directory", lambda for_another_user: file / "upshift")
    with pytest.raises(ServerUnavailableError, match=f"Not a directory: '{file}/upshift'"):
        postgres().__enter__()


def test_a_failing_initdb_is_told_with_the_last_lines_of_its_log(monkeypatch, open_directory):
    for name in PROGRAMS:
        program = open_directory / name
        program.write_text("#!/bin/sh\nseq 100\necho the disk is full\nexit 3\n")
        program.chmod(0o755)
    monkeypatch.setattr(module, "find_postgres", lambda: Postgres(open_directory))
    with pytest.raises(ServerUnavailableError) as caught:
        postgres().__enter__()
    first, *log = str(caught.value).splitlines()
    assert first == "initdb ended with status 3; the last lines of its log:"
    assert log[-2:] == ["    100", "    the disk is full"]
    assert len(log) == 12


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to leave its home directory behind")
def test_root_runs_the_programs_of_a_wheel_below_a_private_directory(monkeypatch, tmp_path):
    real = find_postgres()
    if not real.trees:
        pytest.skip("the programs do not come from a wheel")
    for tree in real.trees:
        (tmp_path / tree.name).symlink_to(tree)
    tmp_path.chmod(0o700)
    home = real.trees[0].parent
    hidden = Postgres(
        tmp_path / real.programs.relative_to(home), tuple(tmp_path / tree.name for tree in real.trees)
    )
    monkeypatch.setattr(module, "find_postgres", lambda: hidden)
    with postgres() as server:
        assert value(server, "SELECT 6 * 7") == 42


def test_a_killed_server_takes_its_busy_backends_and_shared_memory_along(traces_of):
    def work(connection: psycopg.Connection) -> None:
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT count(*) FROM generate_series(1, 1e10)")

    with postgres() as server, psycopg.connect(server.url(), autocommit=True) as connection:
        segment = (server.data_dir / "postmaster.pid").read_text().splitlines()[6].split()[1]
        busy = threading.Thread(target=work, args=[connection])
        busy.start()
        while value(server, "SELECT count(*) FROM pg_stat_activity WHERE state = 'active'") != 2:
            assert busy.is_alive()
        traces = traces_of(server.pid)
        os.kill(server.pid, signal.SIGKILL)
        busy.join()
    assert traces.left() == []
    if sys.platform == "linux":
        segments = Path("/proc/sysvipc/shm").read_text().splitlines()[1:]
        assert segment not in {line.split()[1] for line in segments}
