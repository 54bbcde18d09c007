"""Write-behind: what is acknowledged, what is read, what waits and what is refused."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from threading import Event

import pytest

from tests.unit.cache.writes.conftest import wait_until
from upshift.cache import MISSING, Cache
from upshift.cache.writes import committing, journal
from upshift.errors import CacheKeyError, CodecError, WriteBehindError, WriteBehindFullError


@pytest.fixture
def table():
    return {}


@pytest.fixture
def gate():
    """Holds flushes up until it is set."""
    gate = Event()
    yield gate
    gate.set()


def holding(gate, table):
    def flush(values):
        gate.wait(30)
        table.update(values)

    return flush


def test_a_value_is_read_as_soon_as_it_is_acknowledged_and_flushed_later(make, table):
    stock = make(table.update, delay="1h")
    stock.put("hose", 3)
    assert (stock.get("hose"), stock.get("valve"), table) == (3, MISSING, {})
    assert stock.flush(10) == 0
    assert (stock.get("hose"), table) == (MISSING, {"hose": 3})


def test_what_does_not_wait_is_loaded(make, table):
    stock = make(table.update, delay="1h", load=lambda key: f"loaded {key}")
    stock.put("hose", 3)
    assert (stock.get("hose"), stock.get("valve")) == (3, "loaded valve")


def test_a_default_is_returned_where_nothing_waits_and_nothing_loads(make, table):
    assert make(table.update).get("hose", 0) == 0


def test_a_value_that_is_read_is_nobody_elses(make, table):
    stock = make(table.update, delay="1h")
    value = {"left": 3}
    stock.put("hose", value)
    value["left"] = 2
    stock.get("hose")["left"] = 1
    assert stock.get("hose") == {"left": 3}


def test_writes_of_a_key_are_flushed_once_with_the_last_value(make):
    batches = []
    stock = make(batches.append, delay="1h")
    for number in range(10):
        stock.put("hose", number)
    stock.put("valve", 1)
    stock.flush(10)
    assert batches == [{"hose": 9, "valve": 1}]
    assert stock.statistics().coalesced == 9


def test_writes_of_a_key_are_flushed_in_their_order(make):
    seen = []
    stock = make(lambda values: seen.append(values["hose"]), delay="1ms")
    for number in range(200):
        stock.put("hose", number)
    stock.flush(10)
    assert seen == sorted(seen)
    assert seen[-1] == 199


def test_a_key_that_is_put_again_and_again_keeps_no_other_waiting(make, gate):
    batches = []

    def flush(values):
        gate.wait(30)
        batches.append(tuple(values))

    stock = make(flush, max_batch=1)
    stock.put("hot", 0)
    wait_until(lambda: stock._pending.entries["hot"].is_in_flight)
    stock.put("other", 0)
    stock.put("hot", 1)
    gate.set()
    stock.flush(10)
    assert batches == [("hot",), ("other",), ("hot",)]


def test_batches_are_no_larger_than_was_said(make):
    sizes = []
    stock = make(lambda values: sizes.append(len(values)), delay="1h", max_batch=30)
    with stock:
        for number in range(100):
            stock.put(number, number)
    assert sum(sizes) == 100
    assert max(sizes) == 30


@dataclass
class Level:
    left: int


def test_values_are_of_the_class_that_was_named(make, table):
    stock = make(table.update, delay="1h", value=Level)
    stock.put("hose", Level(3))
    assert stock.get("hose") == Level(3)
    with pytest.raises(CodecError):
        stock.put("hose", object())


def test_keys_keep_their_kind(make, table):
    stock = make(table.update)
    for key in ("7", 7, ("7", 7)):
        stock.put(key, repr(key))
    stock.flush(10)
    assert table == {"7": "'7'", 7: "7", ("7", 7): "('7', 7)"}
    with pytest.raises(CacheKeyError):
        stock.put(7.0, 1)


def test_a_put_waits_for_room(make, gate, table):
    stock = make(holding(gate, table), max_entries=2)
    stock.put("a", 1)
    stock.put("b", 1)
    threading.Timer(0.05, gate.set).start()
    stock.put("c", 1)
    assert stock.statistics().full > 0
    stock.flush(10)
    assert table == {"a": 1, "b": 1, "c": 1}


def test_a_put_for_which_there_is_no_room_in_time_is_refused_and_never_written(make, gate, table):
    stock = make(holding(gate, table), max_entries=2)
    stock.put("a", 1)
    stock.put("b", 1)
    with pytest.raises(WriteBehindFullError, match=r"no room for it within 0\.05 s, as 2 others wait"):
        stock.put("c", 1, timeout=0.05)
    stock.put("b", 2)  # a key that waits already takes no more of it
    assert not stock._work[0]._queue
    gate.set()
    stock.flush(10)
    assert table == {"a": 1, "b": 2}


def test_bytes_are_bounded_as_well(make, gate, table):
    stock = make(holding(gate, table), max_bytes=10_000)
    with pytest.raises(WriteBehindFullError, match="takes 1"):
        stock.put("a", b"x" * 10_000)
    stock.put("a", b"x" * 6_000)
    with pytest.raises(WriteBehindFullError):
        stock.put("b", b"x" * 6_000, timeout=0.05)
    assert stock.statistics().bytes < 10_000


def test_a_disk_that_is_full_acknowledges_nothing(make, table, monkeypatch):
    stock = make(table.update, delay="1h")
    stock.put("a", 1)

    def fail(file, data):
        os.write(file, data[: len(data) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(journal, "_write", fail)
        with pytest.raises(WriteBehindError, match="No space left on device"):
            stock.put("a", 2)
        assert stock.get("a") == 1
    stock.put("b", 3)
    assert stock.close(0.0) == 2
    heir = make(table.update)
    heir.start()
    heir.flush(10)
    assert table == {"a": 1, "b": 3}
    assert stock.statistics().refused == 1


FULL = """
import resource, signal, sys
from upshift.cache import Cache
from upshift.errors import WriteBehindError

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
stock = Cache().writes.behind("stock", print, folder=sys.argv[1], delay="1h")
resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, resource.RLIM_INFINITY))
refused = 0
for number in range(40):
    try:
        stock.put(number, "x" * 500)
    except WriteBehindError as error:
        assert "File too large" in str(error), error
        refused += 1
    else:
        print(number, flush=True)
print("refused", refused, flush=True)
signal.raise_signal(signal.SIGKILL)
"""


def test_what_a_process_acknowledged_with_a_file_that_cannot_grow_is_there_after_a_kill(
    make, tmp_path, table
):
    assert hasattr(resource, "RLIMIT_FSIZE")
    run = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path)], stdout=subprocess.PIPE, text=True, check=False
    )
    *acknowledged, refused = run.stdout.splitlines()
    assert int(refused.split()[1]) > 0  # a new file is begun after each, so not all of them
    heir = make(table.update)
    heir.start()
    heir.flush(10)
    assert sorted(table) == [int(each) for each in acknowledged]


async def test_a_put_that_is_cancelled_while_it_waits_for_room_is_not_written(make, gate, table):
    stock = make(holding(gate, table), max_entries=1)
    await stock.aio.put("a", 1)
    waiting = asyncio.create_task(stock.aio.put("b", 2))
    await asyncio.sleep(0.05)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert not stock._work[0]._queue
    gate.set()
    await stock.aio.flush(10)
    assert table == {"a": 1}


async def test_a_put_that_is_late_says_so(make, gate, table):
    stock = make(holding(gate, table), max_entries=1)
    await stock.aio.put("a", 1)
    with pytest.raises(WriteBehindFullError):
        await stock.aio.put("b", 2, timeout=0.05)


async def test_tasks_share_a_commit(make, table, monkeypatch):
    syncs = []
    monkeypatch.setattr(journal, "sync", lambda file: (syncs.append(file), time.sleep(0.01)))
    stock = make(table.update, delay="1h")
    await asyncio.gather(*[stock.aio.put(number, number) for number in range(500)])
    assert len(syncs) < 20
    assert stock.statistics().puts == 500


def test_threads_share_a_commit(make, table, monkeypatch):
    syncs = []
    monkeypatch.setattr(journal, "sync", lambda file: (syncs.append(file), time.sleep(0.01)))
    stock = make(table.update, delay="1h")
    threads = [threading.Thread(target=stock.put, args=(number, number)) for number in range(50)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(syncs) < 25


def test_what_is_left_at_the_deadline_is_flushed_by_the_next(make, gate, table):
    stock = make(holding(gate, table))
    stock.put("a", 1)
    wait_until(lambda: stock._pending.entries["a"].is_in_flight)
    assert stock.close(0.05) == 1
    assert stock.close() == 0
    heir = make(table.update)
    heir.start()
    assert heir.statistics().replayed == 0  # what is being flushed may be done yet
    gate.set()
    wait_until(lambda: "a" in table)


def test_closing_twice_does_nothing_more_and_puts_are_refused(make, table):
    stock = make(table.update)
    stock.put("a", 1)
    assert stock.close() == stock.close() == 0
    with pytest.raises(WriteBehindError, match="closed"):
        stock.put("a", 2)


def test_what_is_acknowledged_while_it_is_closed_is_flushed_or_left_to_the_next(make, table):
    for _ in range(5):
        stock, acknowledged = make(table.update), []

        def put(thread, stock=stock, acknowledged=acknowledged):
            for number in range(10_000):
                try:
                    stock.put((thread, number), number)
                except WriteBehindError:
                    return
                acknowledged.append((thread, number))

        threads = [threading.Thread(target=put, args=(each,)) for each in range(4)]
        for each in threads:
            each.start()
        wait_until(lambda acknowledged=acknowledged: len(acknowledged) > 20)
        stock.close(0.01)
        for each in threads:
            each.join(30)
            assert not each.is_alive()
        heir = make(table.update)
        heir.start()
        wait_until(lambda acknowledged=acknowledged: set(acknowledged) <= set(table))
        heir.close()
        table.clear()


def test_a_journal_that_waits_for_one_write_does_not_grow(make, folder, gate):
    stock = make(lambda values: gate.wait(30))
    stock._limits = stock._limits._replace(segment_bytes=2_000)
    stock.put("first", 1)
    for number in range(400):
        stock.put("again", number)
    size = sum(path.stat().st_size for path in folder.glob("*.journal"))
    assert size < 15_000
    assert (stock.get("first"), stock.get("again")) == (1, 399)


def test_a_child_has_nothing_of_its_parents_and_a_journal_of_its_own(make, folder, gate, table):
    stock = make(holding(gate, table), delay="1h")
    stock.put("parent", 1)
    child = os.fork()
    if not child:
        status = 1
        try:
            is_empty = stock.get("parent") is MISSING
            stock.put("child", 2)
            if is_empty and stock.get("child") == 2 and len(list(folder.glob("*.lock"))) == 2:
                status = 0
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    assert stock.get("parent") == 1
    gate.set()
    wait_until(lambda: stock.statistics().replayed == 1)
    stock.flush(10)
    assert table == {"parent": 1, "child": 2}


def test_a_child_keeps_no_lock_of_its_parents(make, tmp_path, table):
    stock = make(table.update, delay="1h")
    stock.put("a", 1)
    ready, tell = os.pipe()
    child = os.fork()
    if not child:
        os.write(tell, b"!")
        time.sleep(30)
        os._exit(0)
    try:
        os.read(ready, 1)
        assert stock.close(0.0) == 1
        heir = make(table.update)
        heir.start()
        assert heir.statistics().replayed == 1
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)
        os.close(ready)
        os.close(tell)


def test_a_write_of_ones_own_is_younger_than_what_a_dead_process_left(make, table, monkeypatch):
    monkeypatch.setattr(committing, "LOOK_SECONDS", 0.01)
    stock = make(table.update, delay="1h")
    stock.put("a", "mine")
    other = make(table.update, delay="1h")
    other._folder = stock._folder
    other.put("a", "other")
    other.put("b", "other")
    other.close(0.0)
    wait_until(lambda: stock.statistics().replayed == 1)
    stock.flush(10)
    assert table == {"a": "mine", "b": "other"}


def test_a_write_that_cannot_be_read_any_more_is_a_dead_letter(make, table):
    stock = make(table.update, delay="1h", value=Level)
    stock.put("a", Level(3))
    stock.close(0.0)
    heir = make(table.update, value=dict[str, int])
    heir.put("b", {"left": 1})
    (letter,) = heir.dead_letters()
    assert letter.key == "a"
    assert heir.statistics().given_up == 1
    heir.close()
    assert table == {"b": {"left": 1}}


def test_a_cached_function_keeps_nothing_that_it_read_from_what_waits(table, tmp_path):
    cache = Cache()
    stock = cache.writes.behind("stock", table.update, folder=tmp_path, delay="1h", load=table.get)

    @cache.cached()
    def doubled(key):
        return 2 * (stock.get(key) or 0)

    table["hose"] = 1
    assert doubled("hose") == 2
    stock.put("hose", 5)
    assert doubled("hose") == 10
    stock.put("hose", 6)
    assert doubled("hose") == 12
    cache.close()
