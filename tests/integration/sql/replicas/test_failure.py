"""Replicas that die, hang, lag and come back: no read fails, none waits for long, no write is doubled."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

import psutil
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from upshift.sql import Replicas
from upshift.testing.servers import postgres_replica

from .conftest import Cluster, Item, NewReplicas, Tag, all_fit, dispose, run, wait_for

RECOVERED_WITHIN_S = 5.0
COUNTED = sa.select(sa.func.count()).where(Item.id <= 50)


@contextmanager
def hanging(server):
    """All processes of a server stopped, for the length of a `with` block."""
    postmaster = psutil.Process(server.pid)
    processes = [postmaster, *postmaster.children(recursive=True)]
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.suspend()
    try:
        yield
    finally:
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.resume()


@contextmanager
def killed(server):
    """All processes of a server killed at the start of a `with` block."""
    postmaster = psutil.Process(server.pid)
    for process in (postmaster, *postmaster.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            process.kill()
    yield


@pytest.fixture
def doomed(cluster: Cluster):
    with postgres_replica(cluster.primary) as server:
        yield server


class Load:
    """Reads without a pause, and notes what failed and what took longest."""

    def __init__(self, replicas):
        self.replicas = replicas
        self.errors: list[Exception] = []
        self.slowest = 0.0
        self.count = 0
        self.written = 0
        self.is_over = False

    def note(self, started: float, error: Exception | None) -> None:
        self.count += 1
        self.slowest = max(self.slowest, time.monotonic() - started)
        if error is not None:
            self.errors.append(error)

    def write(self) -> None:
        """Add one tag after the other, each after a read, and count what was committed."""
        while not self.is_over:
            with self.replicas.session_class() as session:
                item = session.get(Item, 14)
                session.add(Tag(item_id=item.id, name="written under load"))
                session.commit()
            self.written += 1

    def read(self) -> None:
        while not self.is_over:
            started, error = time.monotonic(), None
            try:
                with self.replicas.session_class() as session:
                    assert session.scalar(COUNTED) == 50
                    assert session.get(Item, 7).name == "item 7"
            except Exception as raised:  # noqa: BLE001 - whatever it is, the test tells
                error = raised
            self.note(started, error)

    async def read_async(self) -> None:
        while not self.is_over:
            started, error = time.monotonic(), None
            try:
                async with AsyncSession(sync_session_class=self.replicas.session_class) as session:
                    assert await session.scalar(COUNTED) == 50
                    assert (await session.get(Item, 7)).name == "item 7"
            except Exception as raised:  # noqa: BLE001 - whatever it is, the test tells
                error = raised
            self.note(started, error)


def fitness(replicas, name: str) -> bool:
    return {state.name: state.is_fit for state in replicas.states()}[name]


def checked_out(replicas) -> int:
    return sum(engine.pool.checkedout() for engine in replicas.engines)


@contextmanager
def load_on(replicas, readers: int = 8):
    load = Load(replicas)
    with ThreadPoolExecutor(readers + 1) as pool:
        done = [pool.submit(load.read) for _ in range(readers)]
        done.append(pool.submit(load.write))
        try:
            yield load
        finally:
            load.is_over = True
    for each in done:
        each.result()


def test_a_killed_replica_fails_no_read(cluster, doomed, new_replicas: NewReplicas):
    replicas = new_replicas(cluster.primary, cluster.near, doomed)
    with load_on(replicas) as load:
        wait_for(lambda: load.count > 100)
        with killed(doomed):
            wait_for(lambda: not fitness(replicas, "far"), RECOVERED_WITHIN_S)
            count = load.count
            wait_for(lambda: load.count > count + 100)

    assert load.errors == []
    assert load.slowest < RECOVERED_WITHIN_S
    assert checked_out(replicas) == 0
    written = run(cluster.primary, "SELECT count(*) FROM tag WHERE name = 'written under load'")
    assert written[0][0] == load.written > 0


def test_a_hanging_replica_fails_no_read_and_comes_back(cluster, new_replicas: NewReplicas):
    replicas = new_replicas(*cluster)
    with load_on(replicas) as load:
        wait_for(lambda: load.count > 100)
        with hanging(cluster.far):
            wait_for(lambda: not fitness(replicas, "far"), RECOVERED_WITHIN_S)
            count = load.count
            wait_for(lambda: load.count > count + 100)
        wait_for(lambda: fitness(replicas, "far"), RECOVERED_WITHIN_S)

    assert load.errors == []
    assert load.slowest < RECOVERED_WITHIN_S
    assert checked_out(replicas) == 0


async def read_while(replicas, fault) -> tuple[Load, int]:
    """Read until and after a fault, and tell what came of it, and how many connections were in use then."""
    load = Load(replicas)
    readers = [asyncio.create_task(load.read_async()) for _ in range(8)]
    await asyncio.to_thread(wait_for, lambda: load.count > 100)
    with fault:
        await asyncio.to_thread(wait_for, lambda: not fitness(replicas, "far"), RECOVERED_WITHIN_S)
        count = load.count
        await asyncio.to_thread(wait_for, lambda: load.count > count + 100)
    load.is_over = True
    await asyncio.gather(*readers)
    in_use = checked_out(replicas)
    await dispose(replicas)
    return load, in_use


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
async def test_a_killed_replica_fails_no_async_read(cluster, doomed, new_replicas: NewReplicas, driver):
    servers = (cluster.primary, cluster.near, doomed)
    replicas = await asyncio.to_thread(new_replicas, *servers, driver=driver, is_async=True)
    load, in_use = await read_while(replicas, killed(doomed))

    assert load.errors == []
    assert load.slowest < RECOVERED_WITHIN_S
    assert in_use == 0


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
async def test_a_hanging_replica_fails_no_async_read(cluster, new_replicas: NewReplicas, driver):
    replicas = await asyncio.to_thread(new_replicas, *cluster, driver=driver, is_async=True)
    load, in_use = await read_while(replicas, hanging(cluster.far))

    assert load.errors == []
    assert load.slowest < RECOVERED_WITHIN_S
    assert in_use == 0


def test_without_a_fit_replica_reads_go_to_the_primary(cluster, new_replicas):
    replicas = new_replicas(cluster.primary, cluster.near)
    with hanging(cluster.near):
        wait_for(lambda: not fitness(replicas, "near"))
        with replicas.session_class() as session:
            assert session.scalar(sa.select(sa.func.pg_is_in_recovery())) is False


def end_backend(server) -> None:
    """Have a replica end the connection that a session reads from."""
    in_use = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE state = 'idle in transaction'"
    wait_for(lambda: run(server, in_use) != [])
    wait_for(lambda: run(server, in_use) == [])


def test_a_replica_that_dies_after_its_last_read_fails_neither_commit_nor_close(cluster, new_replicas):
    replicas = new_replicas(cluster.primary, cluster.near)
    with replicas.session_class() as session:
        session.get(Item, 12).name = "committed"
        end_backend(cluster.near)
        session.commit()
    with replicas.primary(), replicas.session_class() as session:
        assert session.get(Item, 12).name == "committed"
        assert session.get(Item, 12).version == 2  # once
    wait_for(lambda: fitness(replicas, "near"), RECOVERED_WITHIN_S)
    with replicas.session_class() as session:
        assert session.scalar(COUNTED) == 50
        end_backend(cluster.near)
    assert checked_out(replicas) == 0


def test_a_later_read_of_a_transaction_is_run_on_the_primary(cluster, new_replicas):
    replicas = new_replicas(*cluster)
    with replicas.session_class() as session:
        assert session.scalar(COUNTED) == 50
        replica = session._route.replica
        end_backend(cluster.near if replica.name == "near" else cluster.far)
        assert session.scalar(sa.select(sa.func.pg_is_in_recovery())) is False
        session.commit()
    assert checked_out(replicas) == 0
    assert replica.open_transactions == 0


def test_a_failure_of_the_primary_is_run_nowhere_else(cluster, new_replicas):
    replicas = new_replicas(cluster.primary, cluster.near)
    statements: list[str] = []
    sa.event.listen(replicas.engine, "before_cursor_execute", lambda *args: statements.append(args[2]))
    with replicas.session_class() as session:
        session.execute(sa.update(Item).where(Item.id == 13).values(name="x"))
        pid = session.scalar(sa.select(sa.func.pg_backend_pid()))
        run(cluster.primary, f"SELECT pg_terminate_backend({pid})")
        with pytest.raises(sa.exc.OperationalError):
            session.execute(sa.update(Item).where(Item.id == 13).values(name="y"))
    assert sum("'y'" in each or "UPDATE" in each for each in statements) == 2
    assert replicas.states()[0].is_fit


def test_a_failure_of_another_database_is_run_nowhere_else(
    cluster, new_replicas, postgres_server, postgres_database
):
    replicas = new_replicas(cluster.primary, cluster.near)
    other = sa.create_engine(postgres_database)
    counted = sa.table("counted", sa.column("id"))
    with other.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE counted (id int)")
    statements: list[str] = []
    sa.event.listen(other, "before_cursor_execute", lambda *args: statements.append(args[2]))
    with replicas.session_class(binds={counted: other}) as session:
        assert session.scalar(COUNTED) == 50
        session.execute(sa.insert(counted).values(id=1))
        connection = session.connection(bind_arguments={"clause": sa.select(counted)})
        pid = connection.scalar(sa.select(sa.func.pg_backend_pid()))
        run(postgres_server, f"SELECT pg_terminate_backend({pid})")
        with pytest.raises(sa.exc.OperationalError):
            session.execute(sa.insert(counted).values(id=2))
        assert session.scalar(sa.select(sa.func.pg_is_in_recovery()))
    other.dispose()
    assert [each.split()[0] for each in statements] == ["INSERT", "SELECT", "INSERT"]
    assert replicas.states()[0].is_fit


def test_a_listener_of_the_applications_that_fails_is_no_failure_of_the_replica(cluster, new_replicas):
    replicas = new_replicas(cluster.primary, cluster.near)

    def refuse(*_details):
        raise ValueError("refused")

    with replicas.session_class() as session:
        sa.event.listen(session, "after_begin", refuse)
        with pytest.raises(ValueError, match="refused"):
            session.scalar(COUNTED)
    assert replicas.states()[0].is_fit
    assert replicas.states()[0].open_transactions == 0
    assert checked_out(replicas) == 0


def test_an_error_of_the_statement_is_no_failure_of_the_replica(cluster, new_replicas):
    replicas = new_replicas(cluster.primary, cluster.near)
    statements: list[str] = []
    sa.event.listen(replicas.engines[1], "before_cursor_execute", lambda *args: statements.append(args[2]))
    with replicas.session_class() as session, pytest.raises(sa.exc.DataError):
        session.execute(sa.select(1 / sa.cast(sa.literal(0), sa.Integer)))
    assert len(statements) == 1
    assert replicas.states()[0].is_fit


def test_a_read_that_was_in_the_way_of_recovery_is_run_on_the_primary(cluster, new_replicas):
    replicas = new_replicas(cluster.primary, cluster.near)
    run(cluster.primary, "CREATE TABLE passing AS SELECT 1 AS id")
    cluster.caught_up()
    run(cluster.near, "ALTER SYSTEM SET max_standby_streaming_delay = '100ms'")
    run(cluster.near, "SELECT pg_reload_conf()")
    threading.Timer(0.3, lambda: run(cluster.primary, "TRUNCATE passing")).start()
    with replicas.session_class() as session:
        session.execute(sa.text("SELECT id FROM passing")).all()  # its lock is in the way of the TRUNCATE
        result = session.execute(sa.text("SELECT count(*), pg_sleep(2) FROM passing")).one()
        assert result[0] == 0
        session.commit()


def test_a_cancelled_read_gives_its_connection_back(cluster, new_replicas):
    async def read_and_give_up(replicas):
        async with AsyncSession(sync_session_class=replicas.session_class) as session:
            try:
                await asyncio.wait_for(session.execute(sa.text("SELECT pg_sleep(30)")), 0.2)
            finally:
                await session.close()
                assert checked_out(replicas) == 0
                await dispose(replicas)

    replicas = new_replicas(cluster.primary, cluster.near, driver="asyncpg", is_async=True)
    with pytest.raises(TimeoutError):
        asyncio.run(read_and_give_up(replicas))
    assert replicas.states()[0].open_transactions == 0


def test_a_replica_that_lags_is_not_read_until_it_has_caught_up(cluster, new_replicas):
    replicas = new_replicas(cluster.primary, cluster.near, longest_lag_seconds=0.5)
    with cluster.paused(cluster.near):
        run(cluster.primary, "INSERT INTO item (name, version) VALUES ('later', 1)")
        wait_for(lambda: not fitness(replicas, "near"))
        assert "behind the primary" in replicas.states()[0].reason
    wait_for(lambda: fitness(replicas, "near"), RECOVERED_WITHIN_S)


def test_an_idle_primary_makes_no_replica_lag(cluster, new_replicas):
    replicas = new_replicas(cluster.primary, cluster.near, longest_lag_seconds=0.5)
    time.sleep(1.0)
    assert all_fit(replicas)


def test_reads_go_on_without_the_primary(cluster):
    nowhere = sa.create_engine("postgresql+psycopg://postgres@/postgres?host=/nowhere")
    near = sa.create_engine(cluster.near.url(driver="psycopg"))
    replicas = Replicas(nowhere, [near], probe_seconds=0.1)
    wait_for(lambda: all_fit(replicas))
    with replicas.session_class() as session:
        assert session.scalar(COUNTED) == 50
        session.add(Tag(item_id=1, name="nowhere"))
        with pytest.raises(sa.exc.OperationalError):
            session.commit()
    replicas.close()
    near.dispose()


def test_a_server_that_is_no_replica_is_not_read_from(cluster, postgres_server):
    engines = [sa.create_engine(s.url(driver="psycopg")) for s in (cluster.primary, postgres_server)]
    replicas = Replicas(engines[0], engines[1:], probe_seconds=0.1)
    replicas._watch()
    wait_for(lambda: replicas.states()[0].reason not in {"not asked yet", ""})
    assert "another cluster" in replicas.states()[0].reason or "no replica" in replicas.states()[0].reason
    replicas.close()
    for engine in engines:
        engine.dispose()


def test_a_forked_child_watches_for_itself(cluster, new_replicas):
    replicas = new_replicas(cluster.primary, cluster.near)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            assert replicas._replicas[0].sockets.cut() == 0  # they are the parent's
            for engine in replicas.engines:
                engine.dispose(close=False)
            wait_for(lambda: all_fit(replicas) and len(replicas._probers) == 2)
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    wait_for(lambda: all_fit(replicas))


def test_closing_ends_the_threads_and_leaves_the_engines_as_they_were(cluster, new_replicas):
    replicas = new_replicas(cluster.primary, cluster.near)
    threads = [prober.thread for prober in replicas._probers]
    replicas.close()
    replicas.close()
    for thread in threads:
        thread.join(5)
        assert not thread.is_alive()
    for engine in replicas.engines:
        assert "do_commit" not in vars(engine.dialect)
        assert "do_rollback" not in vars(engine.dialect)
