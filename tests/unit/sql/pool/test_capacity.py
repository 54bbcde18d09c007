"""What a pool lets be in use while its limit changes, and what it is afterwards."""

from __future__ import annotations

import os
import sqlite3
import threading
from contextlib import ExitStack

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from sqlalchemy import create_engine
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import QueuePool

from upshift.sql.pool.capacity import UNLIMITED, Capacity


def engine_of(**options):
    options = {"pool_size": 3, "max_overflow": 2, "pool_timeout": 0.01, **options}
    return create_engine(
        "sqlite://", poolclass=QueuePool, connect_args={"check_same_thread": False}, **options
    )


@pytest.fixture
def engine():
    engine = engine_of()
    yield engine
    engine.dispose()


def take_all(engine, stack):
    """Take connections until there are no more, and return how many there were."""
    taken = 0
    while True:
        try:
            stack.enter_context(engine.connect())
        except PoolTimeoutError:
            return taken
        taken += 1


def test_a_pool_starts_with_its_own_limit(engine):
    assert Capacity(engine.pool).limit == 5
    assert Capacity(engine_of(pool_size=0).pool).limit == UNLIMITED
    assert Capacity(engine_of(max_overflow=-1).pool).limit == UNLIMITED


@pytest.mark.parametrize("limit", [1, 2, 5, 9])
@pytest.mark.parametrize("used_before", [0, 3, 5])
def test_as_many_connections_can_be_in_use_as_the_limit_says(engine, limit, used_before):
    with ExitStack() as before:
        for _ in range(used_before):
            before.enter_context(engine.connect())
        capacity = Capacity(engine.pool)
        before.close()
    capacity.set_limit(limit)
    with ExitStack() as stack:
        assert take_all(engine, stack) == limit
    assert capacity.limit == limit


def test_who_has_a_connection_keeps_it_when_the_limit_falls_and_gives_it_up_to_nobody(engine):
    capacity = Capacity(engine.pool)
    with ExitStack() as stack:
        assert take_all(engine, stack) == 5
        capacity.set_limit(2)
        assert capacity.limit == 2
    assert capacity.parked == 3
    with ExitStack() as stack:
        assert take_all(engine, stack) == 2


def test_what_is_parked_comes_back_when_the_limit_rises_without_connecting_again(engine):
    opened = []
    capacity = Capacity(engine.pool)
    create = engine.pool._invoke_creator
    engine.pool._invoke_creator = lambda entry: opened.append(entry) or create(entry)
    with ExitStack() as stack:
        take_all(engine, stack)
    capacity.set_limit(1)
    capacity.set_limit(5)
    with ExitStack() as stack:
        assert take_all(engine, stack) == 5
    assert len(opened) == 5


def test_whoever_waits_has_the_connection_that_a_higher_limit_brings_back():
    engine = engine_of(pool_timeout=10)
    capacity = Capacity(engine.pool)
    with engine.connect(), engine.connect():
        pass
    capacity.set_limit(1)
    got = threading.Event()

    def wait():
        with engine.connect():
            got.set()

    with engine.connect():
        thread = threading.Thread(target=wait)
        thread.start()
        assert not got.wait(0.05)
        capacity.set_limit(2)
        assert got.wait(5)
        thread.join()
    engine.dispose()


def test_trimming_closes_what_is_parked_and_no_more(engine):
    capacity = Capacity(engine.pool)
    with ExitStack() as stack:
        take_all(engine, stack)
    capacity.set_limit(2)
    assert (capacity.open, capacity.parked) == (5, 3)
    assert capacity.trim() == 3
    assert (capacity.open, capacity.parked, capacity.limit) == (2, 0, 2)
    assert (engine.pool.size(), engine.pool.checkedin(), engine.pool.checkedout()) == (2, 2, 0)


def test_connections_opened_ahead_are_idle_and_no_more_than_the_limit(engine):
    capacity = Capacity(engine.pool)
    assert capacity.open_ahead(3) == 3
    assert capacity.open_ahead(9) == 2
    assert engine.pool.checkedin() == 5


def test_a_database_that_refuses_leaves_room_for_another_try(engine):
    capacity = Capacity(engine.pool)

    def refuse(_entry):
        raise sqlite3.OperationalError

    engine.pool._invoke_creator = refuse
    for _ in range(10):
        with pytest.raises(sqlite3.OperationalError):
            capacity.open_ahead(1)
    assert capacity.open == 0


@pytest.mark.parametrize("limit", [1, 3, 12])
def test_closing_gives_the_pool_its_own_size_back(engine, limit):
    before = {name: value for name, value in vars(engine.pool).items() if name != "_overflow"}
    capacity = Capacity(engine.pool)
    capacity.set_limit(limit)
    with ExitStack() as stack:
        take_all(engine, stack)
    capacity.close()
    capacity.close()
    assert {name: value for name, value in vars(engine.pool).items() if name != "_overflow"} == before
    assert (engine.pool.size(), engine.pool._max_overflow) == (3, 2)
    assert engine.pool.checkedout() == 0
    assert engine.pool.checkedin() <= 3
    with ExitStack() as stack:
        assert take_all(engine, stack) == 5


def test_closing_while_connections_are_in_use_closes_the_surplus_as_they_come_back(engine):
    capacity = Capacity(engine.pool)
    capacity.set_limit(9)
    with ExitStack() as stack:
        assert take_all(engine, stack) == 9
        capacity.close()
    assert (engine.pool.checkedin(), engine.pool.checkedout()) == (3, 0)


@pytest.mark.parametrize("close", [True, False])
def test_a_disposed_engine_keeps_the_limit(engine, close):
    capacity = Capacity(engine.pool)
    with ExitStack() as stack:
        take_all(engine, stack)
    capacity.set_limit(2)
    old = engine.pool
    engine.dispose(close=close)
    assert capacity.pool is engine.pool
    assert capacity.pool is not old
    assert capacity.limit == 2
    with ExitStack() as stack:
        assert take_all(engine, stack) == 2
    capacity.close()
    assert (engine.pool.size(), engine.pool._max_overflow) == (3, 2)


def test_what_comes_back_to_the_pool_from_before_a_dispose_is_not_parked(engine):
    capacity = Capacity(engine.pool)
    with engine.connect():
        engine.dispose()
        capacity.set_limit(1)
    assert capacity.parked == 0
    with ExitStack() as stack:
        assert take_all(engine, stack) == 1


def test_a_limit_below_one_is_refused(engine):
    with pytest.raises(ValueError, match="0 connections"):
        Capacity(engine.pool).set_limit(0)


class Uses(RuleBasedStateMachine):
    """Whatever happens, the limit holds and the numbers agree."""

    def __init__(self):
        super().__init__()
        self.engine = engine_of(pool_timeout=0)
        self.capacity = Capacity(self.engine.pool)
        self.held = []

    @rule(limit=st.integers(1, 8))
    def change_the_limit(self, limit):
        self.capacity.set_limit(limit)
        assert self.capacity.limit == limit

    @rule()
    def take(self):
        if len(self.held) < self.capacity.limit:
            self.held.append(self.engine.connect())
        else:
            with pytest.raises(PoolTimeoutError):
                self.engine.connect()

    @precondition(lambda self: self.held)
    @rule(number=st.integers(0, 7), is_lost=st.booleans())
    def give_back(self, number, is_lost):
        connection = self.held.pop(number % len(self.held))
        if is_lost:
            connection.invalidate()
        connection.close()

    @rule(keep=st.integers(0, 2))
    def trim(self, keep):
        self.capacity.trim(keep)
        assert self.capacity.parked <= keep

    @rule(count=st.integers(0, 4))
    def open_ahead(self, count):
        self.capacity.open_ahead(count)

    @precondition(lambda self: not self.held)
    @rule(close=st.booleans())
    def dispose(self, close):
        limit = self.capacity.limit
        self.engine.dispose(close=close)
        assert self.capacity.limit == limit

    @invariant()
    def the_numbers_agree(self):
        pool, capacity = self.engine.pool, self.capacity
        assert pool.checkedin() + capacity.parked + len(self.held) == capacity.open
        assert pool.checkedin() <= pool.size()

    def teardown(self):
        for connection in self.held:
            connection.close()
        self.capacity.close()
        pool = self.engine.pool
        assert (pool.size(), pool._max_overflow, pool.checkedout()) == (3, 2, 0)
        self.engine.dispose()


TestUses = Uses.TestCase
TestUses.settings = settings(deadline=None, max_examples=60, stateful_step_count=30)


def test_many_threads_never_have_more_than_the_limit_once_it_has_settled():
    engine = engine_of(pool_timeout=10)
    capacity = Capacity(engine.pool)
    in_use, most, lock, ended = 0, 0, threading.Lock(), threading.Event()

    def work():
        nonlocal in_use, most
        while not ended.is_set():
            with engine.connect():
                with lock:
                    in_use += 1
                    most = max(most, in_use)
                with lock:
                    in_use -= 1

    threads = [threading.Thread(target=work) for _ in range(10)]
    for thread in threads:
        thread.start()
    for limit in (1, 8, 2, 5, 3) * 10:
        capacity.set_limit(limit)
        capacity.open_ahead(limit)
        ended.wait(0.002)
        capacity.trim()
    capacity.set_limit(3)
    ended.wait(0.05)
    with lock:
        most = 0
    ended.wait(0.05)
    ended.set()
    for thread in threads:
        thread.join()
    assert 1 <= most <= 3
    assert engine.pool.checkedout() == capacity.parked
    capacity.close()
    engine.dispose()


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_keeps_the_limit_and_nothing_that_is_parked(engine):
    capacity = Capacity(engine.pool)
    with ExitStack() as stack:
        take_all(engine, stack)
    capacity.set_limit(2)
    child = os.fork()
    if child == 0:
        capacity.forget()
        engine.dispose(close=False)
        with ExitStack() as stack:
            taken = take_all(engine, stack)
        os._exit(0 if (taken, capacity.limit, capacity.parked) == (2, 2, 0) else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert capacity.parked == 3


async def test_an_asynchronous_pool_is_limited_and_restored(tmp_path):
    engine = create_async_engine(
        f"sqlite+aiosqlite:///{tmp_path}/x.db", pool_size=3, max_overflow=2, pool_timeout=0.01
    )
    capacity = Capacity(engine.pool)
    held = [await engine.connect() for _ in range(5)]
    capacity.set_limit(2)
    for connection in held:
        await connection.close()
    assert (capacity.limit, capacity.parked) == (2, 3)
    held = [await engine.connect() for _ in range(2)]
    with pytest.raises(PoolTimeoutError):
        await engine.connect()
    capacity.set_limit(4)
    held += [await engine.connect() for _ in range(2)]
    for connection in held:
        await connection.close()
    await engine.dispose()
    assert capacity.limit == 4
    capacity.close()
    assert (engine.pool.size(), engine.pool._max_overflow) == (3, 2)
    await engine.dispose()
