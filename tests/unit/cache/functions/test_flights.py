"""Loads under way."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from contextvars import ContextVar

import pytest

from upshift.cache import Cache
from upshift.cache.functions import Flights
from upshift.cache.functions.flights import Load

FORK = """
import os, sys, threading
from upshift.cache import Cache

cache, began, may_end = Cache(), threading.Event(), threading.Event()

@cache.cached(ttl="1h", refresh_ahead=0.5)
def function(number):
    if threading.current_thread() is not threading.main_thread():
        began.set()
        may_end.wait(20)
    return number

thread = threading.Thread(target=function, args=(7,))
thread.start()
began.wait(20)
child = os.fork()
if child == 0:
    os._exit(0 if function(7) == 7 else 1)  # nobody ends the parent's load here
_, status = os.waitpid(child, 0)
may_end.set()
thread.join()
sys.exit(status)
"""


def test_a_forked_child_waits_for_no_load_of_its_parents_threads():
    command = [sys.executable, "-W", "ignore", "-c", FORK]

    assert subprocess.run(command, timeout=20, check=False).returncode == 0


def test_several_loads_of_a_key_are_told_apart_and_each_leaves():
    flights, key = Flights(), ("n", 1)
    one, other = (Load(threading.Event(), owner, reading=None) for owner in (1, 2))

    with flights.under_way(key, one):
        with flights.under_way(key, other):
            assert flights.in_other_thread(key) is one
        assert other.done.is_set()
        assert flights.in_other_thread(key) is one
    assert flights.in_other_thread(key) is None
    assert flights._loads == {}


@pytest.mark.parametrize(("error", "is_cancelled"), [(ValueError(), False), (KeyboardInterrupt(), True)])
def test_how_a_load_ended_is_told(error, is_cancelled):
    flights, load = Flights(), Load(threading.Event(), 1, reading=None)

    with pytest.raises(type(error)), flights.under_way(("n", 1), load):
        raise error

    assert load.is_cancelled == is_cancelled
    assert load.error is (None if is_cancelled else error)
    assert load.done.is_set()


def test_only_the_loads_of_keys_that_are_meant_are_disowned():
    flights = Flights()
    one, other = (Load(threading.Event(), 1, reading=None) for _ in range(2))

    with flights.under_way(("n", 1), one), flights.under_way(("n", 2), other):
        flights.disown(lambda key: key[1] == 2)

    assert (one.is_unwanted, other.is_unwanted) == (False, True)


IS_WITHIN = ContextVar("is_within", default=False)
"""What the functions below depend on beside their arguments: only so can two loads ask for each other's."""


def test_two_threads_whose_loads_ask_for_each_others_both_end():
    cache, both = Cache(), threading.Barrier(2)

    @cache.cached()
    def one(number):
        if IS_WITHIN.get():
            return "one"
        IS_WITHIN.set(True)
        both.wait(10)
        return other(number)

    @cache.cached()
    def other(number):
        if IS_WITHIN.get():
            return "other"
        IS_WITHIN.set(True)
        both.wait(10)
        return one(number)

    threads = [threading.Thread(target=each, args=(1,), daemon=True) for each in (one, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert not any(thread.is_alive() for thread in threads)
    assert cache._flights._waits == {}


async def test_so_do_three_tasks_in_a_ring():
    cache, all_three = Cache(), asyncio.Barrier(3)

    async def ask(number):
        if IS_WITHIN.get():
            return number
        IS_WITHIN.set(True)
        await all_three.wait()
        return await function((number + 1) % 3)

    function = cache.cached()(ask)
    async with asyncio.timeout(10):
        answers = await asyncio.gather(*map(function, range(3)))
    assert set(answers) <= {0, 1, 2}


def test_a_load_that_waits_for_none_of_the_callers_is_waited_for():
    cache, began, may_end, loads = Cache(), threading.Event(), threading.Event(), []

    @cache.cached()
    def inner(number):
        loads.append(number)
        began.set()
        may_end.wait(10)
        return number

    @cache.cached()
    def outer(number):
        return inner(number)

    first = threading.Thread(target=inner, args=(7,))
    first.start()
    began.wait(10)
    second = threading.Thread(target=outer, args=(7,))
    second.start()
    second.join(0.2)
    may_end.set()
    for thread in (first, second):
        thread.join(10)
    assert loads == [7]
