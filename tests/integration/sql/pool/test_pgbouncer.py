"""A real PgBouncer in transaction mode between the application and PostgreSQL, with all of Upshift on."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from sqlalchemy import ForeignKey, create_engine, func, select, text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship
from starlette.applications import Starlette

from upshift import Upshift
from upshift.record import Record
from upshift.testing.servers.supervision import free_port

PROGRAM = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
SERVER_CONNECTIONS = 3

pytestmark = pytest.mark.skipif(
    PROGRAM is None, reason="pgbouncer is not installed (Debian's package pgbouncer has it)"
)


class Base(DeclarativeBase):
    pass


class Author(Base):
    __tablename__ = "author"
    id: Mapped[int] = mapped_column(primary_key=True)
    books: Mapped[list[Book]] = relationship(order_by="Book.id")


class Book(Base):
    __tablename__ = "book"
    id: Mapped[int] = mapped_column(primary_key=True)
    author_id: Mapped[int] = mapped_column(ForeignKey("author.id"))


@pytest.fixture
def bouncer(postgres_server, postgres_database):
    """A URL that leads through PgBouncer to an empty database."""
    name = postgres_database.partition("?")[0].rpartition("/")[2]
    owner = postgres_server.data_dir.stat()
    folder = postgres_server.data_dir.parent / f"pgbouncer-{name}"  # where its user can come to
    folder.mkdir()
    os.chown(folder, owner.st_uid, -1)
    port = free_port()
    (folder / "users").write_text('"postgres" ""\n')
    (folder / "pgbouncer.ini").write_text(
        f"""
[databases]
{name} = host={postgres_server.host} port={postgres_server.port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = trust
auth_file = {folder}/users
pool_mode = transaction
default_pool_size = {SERVER_CONNECTIONS}
ignore_startup_parameters = extra_float_digits
"""
    )
    unprivileged = {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []}
    process = subprocess.Popen(
        [PROGRAM, "-q", folder / "pgbouncer.ini"],
        stderr=subprocess.DEVNULL,
        **(unprivileged if os.geteuid() == 0 else {}),
    )
    wait_until_it_listens(port, name)
    yield f"postgresql+psycopg://postgres@127.0.0.1:{port}/{name}"
    process.terminate()
    process.wait()
    shutil.rmtree(folder)


def wait_until_it_listens(port, name):
    deadline = time.monotonic() + 10
    while True:
        try:
            psycopg.connect(f"postgresql://postgres@127.0.0.1:{port}/{name}", connect_timeout=2).close()
        except psycopg.OperationalError:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        else:
            return


OPTIONS = {"pool_size": 10, "connect_args": {"prepare_threshold": None}}
SETTINGS = {
    "batching": True,
    "sql_comments": True,
    "pool_sizing": "auto",
    "pool_checks": True,
    "pool_ping_idle_seconds": 0.001,
    "metrics": False,
}


@pytest.fixture
def shop(bouncer):
    engine = create_engine(bouncer, **OPTIONS)
    Base.metadata.create_all(engine)
    with Session(engine) as session, session.begin():
        session.add_all(Author(id=n, books=[Book(id=10 * n), Book(id=10 * n + 1)]) for n in range(1, 21))
    yield engine
    engine.dispose()


def begin_request(up, number):
    record = Record("GET", "/authors", 0.0)
    record.request_id, record.route = f"r-{number}", "/authors"
    up._current.set(record)
    return record


def seen_at_the_servers_connections(bouncer):
    """What the connections behind PgBouncer have been left with, which the next client gets."""
    engine = create_engine(bouncer, **OPTIONS)
    left = set()
    with engine.connect() as first, engine.connect() as second, engine.connect() as third:
        for connection in (first, second, third):  # open transactions have one each
            left.add(
                connection.execute(
                    text("""
                        SELECT current_setting('statement_timeout'), current_setting('lock_timeout'),
                            (SELECT count(*) FROM pg_prepared_statements),
                            (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory')
                    """)
                ).one()
            )
    engine.dispose()
    return left


EXPECTED = {("0", "0", 0, 0)}


def test_many_threads_share_few_connections_and_leave_nothing_on_them(bouncer, shop):
    up = Upshift(Starlette(), engine=shop, **SETTINGS)
    up._begin()

    def read(number):
        record = begin_request(up, number)
        with Session(shop) as session:
            found = {
                a.id: [b.id for b in a.books] for a in session.scalars(select(Author).order_by(Author.id))
            }
            sent = session.scalar(text("SELECT query FROM pg_stat_activity WHERE pid = pg_backend_pid()"))
        return found, sent, len(record.statements)

    with ThreadPoolExecutor(20) as threads:
        results = list(threads.map(read, range(200)))
    up.close()

    assert all(found == {n: [10 * n, 10 * n + 1] for n in range(1, 21)} for found, _, _ in results)
    assert [f"request_id='r-{n}'" in sent for n, (_, sent, _) in enumerate(results)] == [True] * 200
    assert max(statements for _, _, statements in results) < 20  # batches, not a statement for each author
    assert seen_at_the_servers_connections(bouncer) == EXPECTED


async def test_many_tasks_share_few_connections_and_leave_nothing_on_them(bouncer, shop):
    engine = create_async_engine(bouncer, **OPTIONS)
    up = Upshift(Starlette(), engine=engine, **SETTINGS)
    up._begin()

    async def read(number):
        begin_request(up, number)
        async with AsyncSession(engine) as session:
            return await session.scalar(select(func.count(Book.id)).where(Book.author_id == number % 20 + 1))

    counts = await asyncio.gather(*(asyncio.create_task(read(number)) for number in range(200)))
    up.close()
    await engine.dispose()

    assert counts == [2] * 200
    assert await asyncio.to_thread(seen_at_the_servers_connections, bouncer) == EXPECTED


def test_what_ends_with_a_transaction_stays_in_it(bouncer, shop):
    up = Upshift(Starlette(), engine=shop, **SETTINGS)

    def take(number):
        with shop.begin() as connection:
            connection.execute(text("SET LOCAL statement_timeout = '12345ms'"))
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": number % 3})
            return connection.scalar(text("SHOW statement_timeout"))

    with ThreadPoolExecutor(12) as threads:
        assert set(threads.map(take, range(60))) == {"12345ms"}
    up.close()
    assert seen_at_the_servers_connections(bouncer) == EXPECTED
