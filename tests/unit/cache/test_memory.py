"""The tier in memory: bounded, and keeping what is read."""

from __future__ import annotations

import random
import threading
from collections import OrderedDict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upshift.cache.memory import Entry, Memory


def entry(key, size=1):
    return Entry(("n", key), f"value {key}", (), frozenset(), 0.0, size)


def read(memory, key):
    found = memory.entries.get(("n", key))
    if found is not None:
        found.reads += 1
    return found


def test_what_is_put_is_found_and_replaced():
    memory = Memory(10, 100)
    memory.put(entry("a", 5))
    memory.put(entry("a", 7))

    assert read(memory, "a").value == "value a"
    assert (len(memory.entries), memory.bytes, memory.evictions) == (1, 7, 0)


def test_an_entry_that_is_larger_than_the_whole_is_not_kept():
    memory = Memory(10, 100)
    memory.put(entry("a", 5))
    memory.put(entry("a", 101))

    assert (dict(memory.entries), memory.bytes) == ({}, 0)


def test_removing_leaves_what_has_taken_the_place():
    memory = Memory(10, 100)
    old, new = entry("a"), entry("a")
    memory.put(old)
    memory.put(new)
    memory.remove(old)
    assert read(memory, "a") is new
    memory.remove(new)
    memory.remove(new)

    assert (dict(memory.entries), memory.bytes) == ({}, 0)


def test_who_makes_room_is_told():
    gone = []
    memory = Memory(2, 100, gone.append)
    for key in "abc":
        memory.put(entry(key))

    assert [each.key for each in gone] == [("n", "a")]


def test_no_entries_means_none():
    memory = Memory(0, 100)
    memory.put(entry("a"))

    assert not memory.entries


operations = st.lists(
    st.tuples(st.sampled_from(["put", "read", "remove", "clear"]), st.integers(0, 30), st.integers(1, 40)),
    max_size=200,
)


@given(operations, st.integers(1, 20), st.integers(1, 200))
def test_bounds_hold_whatever_is_done(steps, max_entries, max_bytes):
    memory = Memory(max_entries, max_bytes)
    for what, key, size in steps:
        found = memory.entries.get(("n", key))
        match what:
            case "put":
                memory.put(entry(key, size))
                assert (("n", key) in memory.entries) == (size <= max_bytes)
            case "read":
                read(memory, key)
            case "remove" if found is not None:
                memory.remove(found)
            case "clear" if key == 0:
                memory.clear()
        assert len(memory.entries) <= max_entries
        assert memory.bytes == sum(each.size for each in memory.entries.values()) <= max_bytes
        assert memory._in_small == sum(not each.is_main for each in memory.entries.values())


def test_replacing_one_entry_for_ever_takes_no_memory():
    memory = Memory(10, 1_000)
    for _ in range(10_000):
        memory.put(entry("a"))

    assert len(memory._small) + len(memory._main) < 300


def hit_ratio(trace, capacity):
    memory = Memory(capacity, 10**9)
    hits = 0
    for key in trace:
        if read(memory, key) is not None:
            hits += 1
        else:
            memory.put(entry(key))
    return hits / len(trace)


def lru_ratio(trace, capacity):
    kept, hits = OrderedDict(), 0
    for key in trace:
        if key in kept:
            hits += 1
            kept.move_to_end(key)
        else:
            kept[key] = None
            if len(kept) > capacity:
                kept.popitem(last=False)
    return hits / len(trace)


def zipf(count, keys=5_000):
    return random.Random(7).choices(range(keys), [1 / (rank + 1) for rank in range(keys)], k=count)


def with_scans(trace):
    mixed = []
    for number, key in enumerate(trace):
        mixed.append(key)
        if number % 5_000 == 0:
            mixed += range(10**6 + number, 10**6 + number + 1_000)
    return mixed


def shifting(trace):
    return [(key + number // 15_000 * 700) % 5_000 for number, key in enumerate(trace)]


@pytest.mark.parametrize("shape", [list, with_scans, shifting])
def test_more_is_found_than_with_lru(shape):
    trace = shape(zipf(60_000))

    assert hit_ratio(trace, 250) > lru_ratio(trace, 250) + 0.02


def test_threads_leave_the_books_right():
    memory = Memory(100, 10_000)

    def work(seed):
        numbers = random.Random(seed)
        for _ in range(3_000):
            key = numbers.randrange(300)
            found = read(memory, key)
            if found is None:
                memory.put(entry(key, numbers.randrange(1, 50)))
            elif numbers.random() < 0.1:
                memory.remove(found)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(memory.entries) <= 100
    assert memory.bytes == sum(each.size for each in memory.entries.values())
