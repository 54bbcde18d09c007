"""What the settings turn on, what it is counted as, and that it can be taken out again."""

from __future__ import annotations

import asyncio
import logging
import time

import pytest
from sqlalchemy import create_engine
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool, QueuePool

from upshift.errors import SettingsError
from upshift.record.pool_care import PoolTally
from upshift.settings import PoolSettings
from upshift.sql.pool.care import PoolCare
from upshift.sql.pool.opening import warm
from upshift.sql.pool.server_limits import HEADROOM, ServerLimits


@pytest.fixture
def engine(tmp_path):
    engine = create_engine(f"sqlite:///{tmp_path}/shop.db", poolclass=QueuePool, pool_size=3)
    yield engine
    engine.dispose()


def care_for(*engines, **settings):
    return PoolCare(engines, PoolSettings(**settings), lambda _: 0)


def test_by_default_nothing_is_done(engine):
    before = dict(vars(engine.pool))
    care = care_for(engine)
    assert vars(engine.pool) == before
    assert list(care.tallies()) == [PoolTally("shop.db")]
    assert not care.warms
    care.start()
    care.close()
    assert care.faults == 0


def test_everything_is_taken_out_again(engine):
    before = {name: value for name, value in vars(engine.pool).items() if name != "_overflow"}
    care = care_for(engine, pool_sizing="auto", pool_checks=True)
    care.start()
    with engine.connect():
        assert next(care.tallies()).limit == 13
    care.close()
    care.close()
    assert {name: value for name, value in vars(engine.pool).items() if name != "_overflow"} == before


def test_only_queue_pools_are_sized():
    engine = create_engine("sqlite://", poolclass=NullPool)
    care = care_for(engine, pool_sizing="auto")
    assert next(care.tallies()).limit is None
    assert care.parked("sqlite") == 0
    care.close()


def test_two_instances_size_two_pools_of_one_database(tmp_path):
    engines = [create_engine(f"sqlite:///{tmp_path}/shop.db", poolclass=QueuePool) for _ in range(2)]
    cares = [care_for(engine, pool_sizing="auto") for engine in engines]
    cares[0]._sizings["shop.db"].capacity.set_limit(3)
    assert [next(care.tallies()).limit for care in cares] == [3, 15]
    for care, engine in zip(cares, engines, strict=True):
        care.close()
        assert engine.pool.size() == 5
        engine.dispose()


def test_a_pool_that_is_sized_already_is_left_alone(engine, caplog):
    first = care_for(engine, pool_sizing="auto")
    second = care_for(engine, pool_sizing="auto")
    assert [next(care.tallies()).limit for care in (first, second)] == [13, None]
    assert "sized by another Upshift" in caplog.text
    first.close()
    third = care_for(engine, pool_sizing="auto")
    assert next(third.tallies()).limit == 13
    third.close()
    second.close()


def test_the_least_must_not_be_above_the_most():
    with pytest.raises(SettingsError, match="pool_min_size is 9"):
        PoolSettings(pool_min_size=9, pool_max_size=5)


def test_connections_are_opened_before_the_first_request(engine):
    care = care_for(engine, pool_warm=2)
    asyncio.run(care.warm())
    assert engine.pool.checkedin() == 2
    asyncio.run(care.warm())
    assert engine.pool.checkedin() == 2
    care.close()


def test_no_more_are_opened_than_the_pool_keeps(engine):
    assert asyncio.run(warm([engine], 50, seconds=5)) == 3
    assert engine.pool.checkedin() == 3


def test_a_database_that_is_away_delays_the_start_and_does_not_stop_it(engine, caplog):
    def refuse(_entry):
        raise OperationalError("connect", None, OSError("refused"))

    engine.pool._invoke_creator = refuse
    with caplog.at_level(logging.WARNING, "upshift.sql"):
        assert asyncio.run(warm([engine], 3, seconds=5)) == 0
    assert "0 of 3 connections" in caplog.text
    assert engine.pool.checkedout() == 0


def test_a_database_that_hangs_is_not_waited_for(engine):
    create = engine.pool._invoke_creator

    def hang(entry):
        time.sleep(0.4)
        return create(entry)

    engine.pool._invoke_creator = hang

    async def start():
        started = time.monotonic()
        opened = await warm([engine], 2, seconds=0.05)
        return opened, time.monotonic() - started

    opened, seconds = asyncio.run(start())
    assert opened == 0
    assert seconds < 0.4
    assert engine.pool.checkedin() == 2  # they came later, and are used


def test_half_of_what_the_server_has_left_is_a_pools_share():
    assert (
        ServerLimits(connections=100, used=50, idle_seconds=None).share(own=10) == 10 + (50 - HEADROOM) // 2
    )
    assert ServerLimits(connections=100, used=99, idle_seconds=None).share(own=10) == 10
    assert ServerLimits(connections=100, used=120, idle_seconds=None).share(own=10) == 10
