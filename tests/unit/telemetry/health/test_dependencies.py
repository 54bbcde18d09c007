"""The ready-made checks, on what needs no server."""

import asyncio
import sys
from contextvars import ContextVar

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import QueuePool

from upshift.errors import MissingExtraError
from upshift.record import Record
from upshift.settings import HealthSettings
from upshift.sql import Capture
from upshift.telemetry.health import Health, disk_check, engine_check, redis_check


async def outcome(check, seconds=10.0):
    health = Health(HealthSettings(health_cache_seconds=0.0))
    health.check("it", check, timeout=seconds)
    result = (await health.report()).results[0]
    return result.status, result.output or result.detail


@pytest.fixture
def engine(tmp_path):
    engine = create_engine(f"sqlite:///{tmp_path}/shop.db", poolclass=QueuePool, pool_size=1, max_overflow=0)
    yield engine
    engine.dispose()


async def test_a_database_that_answers_passes(engine):
    assert await outcome(engine_check(engine)) == ("pass", "")
    assert engine.pool.checkedin() == 1  # the connection is given back


async def test_a_database_that_is_not_there_fails():
    engine = create_engine("sqlite:////nowhere/shop.db")
    status, output = await outcome(engine_check(engine))
    assert status == "fail"
    assert output.startswith("OperationalError: (sqlite3.OperationalError) unable to open database file")


async def test_an_async_engine_is_asked_in_the_loop(tmp_path):
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/shop.db")
    assert await outcome(engine_check(engine)) == ("pass", "")
    await engine.dispose()


async def test_an_exhausted_pool_fails_by_the_check_s_timeout_not_the_pool_s(engine):
    with engine.connect():
        assert await outcome(engine_check(engine), seconds=0.05) == (
            "fail",
            "TimeoutError: no answer within 0.05 s",
        )


async def test_the_check_s_statement_is_no_request_s(engine):
    current = ContextVar("current", default=None)
    capture = Capture([engine], current)
    record = Record("GET", "/", 0.0)
    current.set(record)
    await outcome(engine_check(engine))
    assert record.statements == []
    with engine.connect() as connection:
        connection.execute(text("SELECT 2"))
    assert len(record.statements) == 1
    capture.close()


async def test_a_connection_that_all_share_keeps_its_transaction():
    engine = create_async_engine("sqlite+aiosqlite://")  # in memory, one connection for all
    async with engine.connect() as connection:
        await connection.execute(text("CREATE TABLE t (i int)"))
        await connection.execute(text("INSERT INTO t VALUES (1)"))
        assert await outcome(engine_check(engine)) == ("pass", "one connection for all, not asked")
        assert await connection.scalar(text("SELECT count(*) FROM t")) == 1
    await engine.dispose()


async def test_a_full_disk_fails(tmp_path):
    assert (await outcome(disk_check(tmp_path, 1)))[0] == "pass"
    status, output = await outcome(disk_check(str(tmp_path), 10**30))
    assert status == "fail"
    assert output.endswith(f"bytes free, fewer than {10**30}")


async def test_a_disk_that_is_not_there_fails(tmp_path):
    assert (await outcome(disk_check(tmp_path / "none", 1)))[1].startswith("FileNotFoundError")


async def test_a_redis_that_is_not_there_fails_without_its_password():
    status, output = await outcome(redis_check("redis://:rosebud@127.0.0.1:1/0"))
    assert status == "fail"
    assert output.startswith("ConnectionError:")
    assert "rosebud" not in output


def test_a_url_without_redis_py_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "redis.asyncio", None)
    with pytest.raises(MissingExtraError, match=r"upshift\[redis\]"):
        redis_check("redis://localhost")


def test_checks_serve_one_event_loop_after_the_other(engine):
    check = engine_check(engine)
    assert [asyncio.run(outcome(check)) for _ in range(2)] == [("pass", "")] * 2
