"""Looking at, keeping, dropping and refreshing the value of a call."""

from __future__ import annotations

import asyncio
import inspect
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.pool import StaticPool

from upshift.cache import MISSING


@pytest.fixture
def engine(cache):
    engine = create_engine("sqlite://", poolclass=StaticPool)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE dish (id int PRIMARY KEY, name text)"))
        connection.execute(text("INSERT INTO dish VALUES (1, 'noodles'), (2, 'rice')"))
    cache.watch([engine])
    yield engine
    engine.dispose()


def test_a_look_loads_nothing(cache):
    runs = []

    @cache.cached(namespace="f")
    def function(number, language="en"):
        runs.append(number)
        return number

    assert function.get(7) is MISSING
    function(7)
    assert function.get(7) == function.get(number=7, language="en") == 7
    assert function.get_many([7, (7, "zh"), {"number": 7}, 8]) == [7, MISSING, 7, MISSING]
    assert runs == [7]
    assert (cache.statistics()["f"].hits, cache.statistics()["f"].misses) == (4, 4)


def test_nothing_kept_is_told_from_none(cache):
    @cache.cached()
    def function():
        return None

    assert not function.get()
    assert function.get() is MISSING
    function()
    assert function.get() is None


async def test_an_async_functions_forms_are_awaited(cache):
    @cache.cached(tags=["t:{number}"])
    async def function(number):
        return number

    assert inspect.iscoroutinefunction(function)
    assert await function.get(7) is MISSING
    assert await function.set("seven", 7)
    assert await function(7) == "seven"
    assert await function.get_many([7, 8]) == ["seven", MISSING]
    assert await function.refresh(7) == 7
    assert await function.get(7) == 7
    assert await function.delete(7)
    assert not await function.delete(7)
    await function(7)
    await function.invalidate()
    assert await function.get(7) is MISSING


def test_a_value_that_is_set_depends_on_the_functions_names(cache):
    @cache.cached(tags=["menu:{number}"])
    def function(number):
        return "loaded"

    assert function.set("set", 7)
    assert function(7) == "set"
    cache.invalidate("menu:7")
    assert function(7) == "loaded"


def test_and_on_what_its_values_have_been_read_from(cache, engine):
    @cache.cached()
    def name(number):
        with engine.connect() as connection:
            return connection.scalar(text("SELECT name FROM dish WHERE id = :id"), {"id": number})

    name(1)
    assert name.set("by hand", 2)
    with engine.begin() as connection:
        connection.execute(text("UPDATE dish SET name = 'soup'"))

    assert name(2) == "soup"


def test_many_that_are_read_at_once_are_kept_each_and_end_with_what_they_were_read_from(cache, engine):
    @cache.cached()
    def name(number):
        raise AssertionError("it was set")

    with cache.loading(tables=["dish"]), engine.connect() as connection:
        for number, found in connection.execute(text("SELECT id, name FROM dish")):
            assert name.set(found, number)

    assert [name(1), name(2)] == ["noodles", "rice"]
    with engine.begin() as connection:
        connection.execute(text("UPDATE dish SET name = 'soup'"))
    assert name.get_many([1, 2]) == [MISSING, MISSING]


def test_what_was_read_before_a_commit_is_not_kept_after_it(cache, engine):
    """The race of every `set` after a SELECT: another writes, and commits, in between."""

    @cache.cached(namespace="f")
    def name(number): ...

    def write():
        with engine.begin() as connection:
            connection.execute(text("UPDATE dish SET name = 'soup'"))

    with cache.loading(tables=["dish"]):
        with engine.connect() as connection:
            found = connection.scalar(text("SELECT name FROM dish WHERE id = 1"))
        Context().run(write)
        assert not name.set(found, 1)

    assert name.get(1) is MISSING
    assert cache.statistics()["f"].refused == {"what it depends on was written meanwhile": 1}


def test_who_has_written_keeps_nothing_until_it_has_committed(cache, engine):
    @cache.cached()
    def name(number): ...

    with engine.begin() as connection:
        connection.execute(text("UPDATE dish SET name = 'soup'"))
        assert not name.set("soup", 1)
    assert name.set("soup", 1)


def test_a_cached_function_sets_the_parts_of_what_it_reads(cache, engine):
    @cache.cached()
    def name(number): ...

    @cache.cached(namespace="names")
    def names():
        with engine.connect() as connection:
            found = dict(connection.execute(text("SELECT id, name FROM dish")).all())
        for number, each in found.items():
            name.set(each, number)
        return found

    names()
    cache.clear()  # SQLite sees one snapshot: the tables are known from now on
    names()
    assert name.get(1) == "noodles"
    with engine.begin() as connection:
        connection.execute(text("UPDATE dish SET name = 'soup'"))
    assert name.get(1) is MISSING


def test_deleting_drops_what_is_being_loaded_as_well(cache):
    began, may_end, value = threading.Event(), threading.Event(), ["old"]

    @cache.cached(namespace="f")
    def function(number):
        seen = value[0]
        began.set()
        may_end.wait(10)
        return seen

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(function, 7)
        began.wait(10)
        value[0] = "new"
        function.delete(7)
        may_end.set()
        assert first.result() == "old"

    assert function(7) == "new"
    assert cache.statistics()["f"].refused == {"it was deleted meanwhile": 1}


def test_deleting_one_leaves_the_others(cache):
    @cache.cached()
    def function(number):
        return number

    function(7)
    function(8)
    assert function.delete(7)
    assert function.get_many([7, 8]) == [MISSING, 8]


def test_invalidating_a_function_reaches_what_is_computed_from_it(cache):
    value = [1]

    @cache.cached()
    def inner():
        return value[0]

    @cache.cached()
    def outer():
        return inner() + 10

    assert outer() == 11
    value[0] = 2
    inner.invalidate()
    assert outer() == 12


WORKER = """
import sys
from upshift.cache import Cache

cache = Cache(page=sys.argv[1])
@cache.cached(namespace="f")
def function():
    return None
for line in sys.stdin:
    if line.strip() == "invalidate":
        function.invalidate()
    if line.strip() == "namespace":
        cache.delete_namespace("f")
    print(function(), cache.statistics()["f"].hits, flush=True)
"""


def test_invalidating_a_function_reaches_the_other_workers_of_a_page(tmp_path):
    command = [sys.executable, "-c", WORKER, str(tmp_path / "page")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as one, subprocess.Popen(command, **pipes) as other:

        def ask(worker, what):
            worker.stdin.write(what + "\n")
            worker.stdin.flush()
            return worker.stdout.readline().split()[1]

        assert [ask(one, "read"), ask(one, "read")] == ["0", "1"]
        ask(other, "invalidate")
        assert [ask(one, "read"), ask(one, "read")] == ["1", "2"]
        ask(other, "namespace")
        assert ask(one, "read") == "2"
        for worker in (one, other):
            worker.stdin.close()


def test_methods_have_the_forms_with_their_object(cache):
    class Shop:
        def __init__(self, number):
            self.number = number

        @cache.cached(key=lambda self, page: (self.number, page))
        def menu(self, page):
            return f"menu {self.number}.{page}"

    shop = Shop(1)
    assert shop.menu(2) == Shop.menu.get(shop, 2) == "menu 1.2"


def test_the_forms_survive_many_threads(cache):
    @cache.cached(namespace="f")
    def function(number):
        return number

    def work(seed):
        for step in range(2_000):
            number = (seed + step) % 5
            match step % 5:
                case 0:
                    assert function(number) == number
                case 1:
                    function.delete(number)
                case 2:
                    assert function.get(number) in {MISSING, number}
                case 3:
                    function.set(number, number)
                case _:
                    function.invalidate()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))

    assert cache._flights._loads == {}
    assert cache.statistics()["f"].entries == len(cache._memory.entries)


async def test_deleting_while_an_async_function_loads_has_who_waits_load_again(cache):
    began, may_end, runs = asyncio.Event(), asyncio.Event(), []

    @cache.cached()
    async def function(number):
        runs.append(number)
        began.set()
        await may_end.wait()
        return len(runs)

    first = asyncio.create_task(function(7))
    await began.wait()
    second = asyncio.create_task(function(7))
    await asyncio.sleep(0)
    await function.delete(7)
    may_end.set()

    assert (await first, await second) == (1, 2)
