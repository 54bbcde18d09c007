"""Flushing: again until it is there, in smaller batches, and what can never be becomes a dead letter."""

from __future__ import annotations

import asyncio
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.cache.writes.conftest import wait_until
from upshift.cache import Cache
from upshift.cache.writes import dead_letters, flushing
from upshift.errors import CodecError


class Table:
    """A table that refuses some values, and is away at times."""

    def __init__(self):
        self.rows = {}
        self.batches = []
        self.is_away = False
        self.bad = {"bad"}

    def flush(self, values):
        self.batches.append(dict(values))
        if self.is_away:
            raise ConnectionRefusedError("away")
        if self.bad & set(values.values()):
            raise ValueError("bad value")
        self.rows.update(values)


@pytest.fixture
def table():
    return Table()


def keep_busy_until(stock, condition):
    """Put what succeeds: that shows that the database is there."""

    def is_so():
        stock.put("busy", 1)
        return condition()

    wait_until(is_so)


@settings(max_examples=8)
@given(st.sets(st.integers(0, 59), max_size=6), st.integers(1, 60))
def test_whichever_are_bad_all_others_are_flushed(tmp_path_factory, bad, most):
    table, folder = Table(), tmp_path_factory.mktemp("writes")
    stock = Cache().writes.behind("stock", table.flush, folder=folder, delay="1h", max_batch=most)
    puts = [stock.submit(number, "bad" if number in bad else "good") for number in range(60)]
    for each in puts:
        each.acknowledged.result(30)
    wait_until(lambda: (stock.flush(0.01), len(table.rows) == 60 - len(bad))[1])
    assert set(table.rows) == set(range(60)) - bad
    stock.close(0.0)


def test_a_bad_write_is_given_up_and_kept_as_a_dead_letter(make, table):
    stock = make(table.flush, attempts=3)
    stock.put("a", "bad")
    keep_busy_until(stock, lambda: stock.statistics().given_up)
    (letter,) = stock.dead_letters()
    assert (letter.key, stock.value_of(letter), letter.error) == ("a", "bad", "ValueError('bad value')")
    assert sum(batch == {"a": "bad"} for batch in table.batches) >= 3
    assert stock.flush(10) == 0


def test_a_bad_write_alone_is_never_given_up(make, table, monkeypatch):
    monkeypatch.setattr(flushing, "FIRST_WAIT", 0.0001)
    stock = make(table.flush, attempts=1)
    stock.put("a", "bad")
    wait_until(lambda: stock.statistics().failures > 8)
    assert stock.statistics().given_up == 0
    table.bad = set()
    assert stock.flush(30) == 0
    assert table.rows == {"a": "bad"}


def test_nothing_is_given_up_while_the_database_is_away(make, table, monkeypatch):
    monkeypatch.setattr(flushing, "FIRST_WAIT", 0.0001)
    stock = make(table.flush, attempts=1, delay="1h")
    table.is_away = True
    for number in range(20):
        stock.put(number, number)
    stock.flush(0.1)
    wait_until(lambda: (stock.flush(0.01), stock.statistics().failures > 12)[1])
    assert stock.dead_letters() == []
    table.is_away = False
    assert stock.flush(30) == 0
    assert table.rows == {number: number for number in range(20)}


def test_a_database_that_is_away_is_not_asked_for_each_write(make, table):
    stock = make(table.flush, delay="1h")
    table.is_away = True
    for number in range(500):
        stock.put(number, number)
    stock.flush(0.3)
    assert stock.statistics().failures < 10


def test_a_newer_value_takes_the_place_of_a_bad_one(make, table):
    stock = make(table.flush)
    stock.put("a", "bad")
    wait_until(lambda: stock.statistics().failures)
    stock.put("a", "good")
    assert stock.flush(30) == 0
    assert table.rows == {"a": "good"}


def test_where_there_is_no_room_for_a_dead_letter_the_write_stays(make, table, monkeypatch):
    monkeypatch.setattr(dead_letters, "MAX_BYTES", 10)
    monkeypatch.setattr(flushing, "FIRST_WAIT", 0.0001)
    stock = make(table.flush, attempts=1)
    stock.put("a", "bad")
    keep_busy_until(stock, lambda: stock.statistics().failures > 5)
    assert stock.statistics().given_up == 0
    assert stock.get("a") == "bad"


def test_dead_letters_can_be_revived_where_nothing_newer_waits(make, table):
    stock = make(table.flush, attempts=1)
    for key in "ab":
        stock.put(key, "bad")
    keep_busy_until(stock, lambda: stock.statistics().given_up == 2)
    assert stock.flush(10) == 0
    table.bad, table.is_away = set(), True
    stock.put("b", "newer")
    assert stock.revive() == 1
    assert stock.dead_letters() == []
    table.is_away = False
    assert stock.flush(30) == 0
    assert {key: table.rows[key] for key in "ab"} == {"a": "bad", "b": "newer"}


def test_a_dead_letter_that_comes_while_others_are_removed_stays(tmp_path):
    letters = dead_letters.DeadLetters(tmp_path)
    first, second = dead_letters.DeadLetter("a", b"1", "x"), dead_letters.DeadLetter("b", b"2", "y")
    letters.add(first)
    seen = letters.read()
    letters.add(second)
    letters.remove(seen)
    assert letters.read() == [second]
    letters.add(first)
    assert letters.read() == [second, first]


def test_half_a_dead_letter_is_cut_by_the_next(tmp_path):
    letters = dead_letters.DeadLetters(tmp_path)
    letter = dead_letters.DeadLetter("a", b"1", "x")
    letters.add(letter)
    with (tmp_path / dead_letters.FILE).open("ab") as file:
        file.write(b"\x10\x00\x00")
    letters.add(letter)
    assert letters.read() == [letter, letter]


def test_dead_letters_that_cannot_be_read_stay(make, table, tmp_path):
    stock = make(table.flush, value=int)
    stock.start()
    letter = dead_letters.DeadLetter("a", b"nonsense", "x")
    stock._letters.add(letter)
    with pytest.raises(CodecError):
        stock.revive()
    assert stock.dead_letters() == [letter]


async def test_an_async_flush_runs_in_the_event_loop_that_puts(make):
    threads = []

    async def flush(values):
        await asyncio.sleep(0)
        threads.append(threading.get_ident())

    stock = make(flush)
    await stock.aio.put("a", 1)
    assert await stock.aio.flush(10) == 0
    assert threads == [threading.get_ident()]
    assert await stock.aio.close() == 0


def test_an_async_flush_waits_for_an_event_loop(make, table):
    async def flush(values):
        table.flush(values)

    stock = make(flush)
    stock.put("a", 1)
    wait_until(lambda: stock.statistics().failures)

    async def serve():
        async with stock.aio:
            return await stock.aio.flush(30)

    assert asyncio.run(serve()) == 0
    assert table.rows == {"a": 1}


def test_what_an_event_loop_left_undone_is_flushed_in_the_next(make, table, monkeypatch):
    monkeypatch.setattr(flushing, "LOOK_SECONDS", 0.01)

    async def flush(values):
        if not table.batches:
            table.batches.append(values)
            await asyncio.sleep(60)
        table.flush(values)

    stock = make(flush)

    async def begin():
        await stock.aio.put("a", 1)
        while not table.batches:  # noqa: ASYNC110 - what it waits for sets no event
            await asyncio.sleep(0.001)

    async def end():
        await stock.aio.put("b", 2)
        return await stock.aio.flush(30)

    asyncio.run(begin())
    assert asyncio.run(end()) == 0
    assert table.rows == {"a": 1, "b": 2}


async def test_closing_from_within_the_event_loop_of_the_flush_leaves_the_rest_in_the_journal(make, folder):
    async def flush(values):
        await asyncio.sleep(60)

    stock = make(flush)
    await stock.aio.put("a", 1)
    assert stock.close() == 1
    assert list(folder.glob("*.journal"))


async def test_an_async_load_is_awaited(make):
    async def load(key):
        await asyncio.sleep(0)
        return f"loaded {key}"

    stock = make(print, delay="1h", load=load)
    assert await stock.aio.get("a") == "loaded a"
    await stock.aio.put("a", 1)
    assert await stock.aio.get("a") == 1
    assert await make(print).aio.get("a", 0) == 0
