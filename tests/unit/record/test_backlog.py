"""Closed records wait for each other and are counted together."""

import logging
from threading import Thread

from upshift.record import Backlog
from upshift.record.backlog import SIZE


def test_records_wait_until_there_are_enough():
    taken = []
    backlog = Backlog([taken.append])
    for number in range(SIZE - 1):
        backlog.add(number)
    assert taken == []
    backlog.add(SIZE - 1)
    assert taken == list(range(SIZE))


def test_whoever_wants_to_read_has_all_counted():
    taken = []
    backlog = Backlog([taken.append])
    backlog.add("one")
    backlog.drain()
    assert taken == ["one"]
    backlog.drain()
    assert taken == ["one"]


def test_each_taker_gets_each_record_in_turn():
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
