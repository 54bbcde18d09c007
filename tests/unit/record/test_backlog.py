"""Closed records wait for each other and are counted together."""

import asyncio
import logging
import os
from threading import Event, Thread

from upshift.record import Backlog
from upshift.record.backlog import SECONDS, SIZE


async def test_records_wait_until_there_are_enough():
    taken = []
    backlog = Backlog([taken.append])
    for number in range(SIZE - 1):
        backlog.add(number)
    assert taken == []
    backlog.add(SIZE - 1)
    assert taken == list(range(SIZE))


async def test_no_record_waits_for_long():
    taken = []
    backlog = Backlog([taken.append])
    for number in range(2):
        backlog.add(number)
        assert taken == list(range(number))
        await asyncio.sleep(2 * SECONDS)
        assert taken == list(range(number + 1))


def test_no_record_waits_for_a_loop_that_has_ended():
    taken = []
    backlog = Backlog([taken.append])

    async def add(record):
        backlog.add(record)

    async def wait():
        backlog.add("third")
        await asyncio.sleep(2 * SECONDS)

    asyncio.run(add("first"))
    asyncio.run(add("second"))
    asyncio.run(wait())
    backlog.add("fourth")
    assert taken[:3] == ["first", "second", "third"]


def test_outside_of_asyncio_no_record_waits():
    taken = []
    backlog = Backlog([taken.append])
    backlog.add("one")
    assert taken == ["one"]


async def test_what_the_takers_made_is_written_once_for_all_records_handed_on():
    happened = []
    backlog = Backlog([happened.append], after=[lambda: happened.append("written")])
    backlog.add(1)
    backlog.add(2)
    backlog.drain()
    backlog.drain()
    assert happened == [1, 2, "written"]


async def test_a_fault_of_the_writing_is_logged_once_and_counted(caplog):
    def fail():
        raise OSError("disk full")

    backlog = Backlog([], after=[fail])
    with caplog.at_level(logging.ERROR, "upshift.record"):
        for number in range(3):
            backlog.add(number)
            backlog.drain()
    assert (backlog.faults, len(caplog.records)) == (3, 1)


async def test_whoever_wants_to_read_has_all_counted():
    taken = []
    backlog = Backlog([taken.append])
    backlog.add("one")
    backlog.drain()
    assert taken == ["one"]
    backlog.drain()
    assert taken == ["one"]


async def test_each_taker_gets_each_record_in_turn():
    taken = []
    backlog = Backlog([lambda record: taken.append(("first", record)), lambda r: taken.append(("second", r))])
    backlog.add(1)
    backlog.add(2)
    backlog.drain()
    assert taken == [("first", 1), ("second", 1), ("first", 2), ("second", 2)]


def test_a_fault_of_a_taker_is_logged_once_and_takes_nothing_from_the_others(caplog):
    def fail(record):
        raise RuntimeError(record)

    taken = []
    backlog = Backlog([fail, taken.append])
    with caplog.at_level(logging.ERROR, "upshift.record"):
        for number in range(3):
            backlog.add(number)
        backlog.drain()
    assert (taken, backlog.faults, len(caplog.records)) == ([0, 1, 2], 3, 1)


def test_threads_lose_and_double_nothing():
    taken = []
    backlog = Backlog([taken.append])

    def add(thread):
        for number in range(2_000):
            backlog.add((thread, number))
            if number % 97 == 0:
                backlog.drain()

    threads = [Thread(target=add, args=(thread,)) for thread in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    backlog.drain()
    assert len(taken) == len(set(taken)) == 8_000
    assert all([number for by, number in taken if by == thread] == list(range(2_000)) for thread in range(4))


async def test_a_forked_child_leaves_to_its_parent_what_waits():
    taken = []
    backlog = Backlog([taken.append])
    backlog.add("the parent's")
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        backlog.drain()
        os.write(writing, repr(taken).encode())
        os._exit(0)
    os.waitpid(child, 0)  # noqa: ASYNC222 - the loop has nothing else to do
    assert os.read(reading, 100) == b"[]"
    os.close(reading)
    os.close(writing)
    backlog.drain()
    assert taken == ["the parent's"]


async def test_what_comes_while_another_thread_hands_on_does_not_wait_for_the_next_request():
    taken, entered, go_on = [], Event(), Event()

    def take(record):
        entered.set()
        go_on.wait(20)
        taken.append(record)

    backlog = Backlog([take])
    backlog.add(1)
    other = Thread(target=backlog.drain)
    other.start()
    await asyncio.to_thread(entered.wait, 20)
    backlog.add(2)
    await asyncio.sleep(2 * SECONDS)  # the timer rings while the other is at it
    go_on.set()
    await asyncio.to_thread(other.join, 20)
    await asyncio.sleep(2 * SECONDS)
    assert taken == [1, 2]


def test_no_record_waits_for_a_loop_that_has_stopped():
    taken = []
    backlog = Backlog([taken.append])

    async def add(record, seconds):
        backlog.add(record)
        await asyncio.sleep(seconds)

    stopped, running = asyncio.new_event_loop(), asyncio.new_event_loop()
    stopped.run_until_complete(add(1, 0))
    running.run_until_complete(add(2, 2 * SECONDS))
    stopped.close()
    running.close()
    assert taken == [1, 2]
