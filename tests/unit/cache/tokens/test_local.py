"""Tokens of one process."""

from __future__ import annotations

import gc
import threading

from hypothesis import settings

from tests.unit.cache.tokens.conformance import INTENT_SECONDS, CarrierMachine
from upshift.cache.tokens import LocalTokens


class LocalMachine(CarrierMachine):
    def make_views(self):
        return [LocalTokens(INTENT_SECONDS, lambda: self.now)]

    def pass_time(self, seconds):
        pass  # its clock is the machine's


LocalMachine.TestCase.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
TestLocalTokens = LocalMachine.TestCase


def test_tags_that_nothing_depends_on_take_no_memory():
    tokens = LocalTokens()
    kept = [tokens.stamp([f"row {number}"]) for number in range(100)]
    for number in range(10_000):
        tokens.stamp([f"other {number}"])
        tokens.announce([f"written {number}"], "a")
        tokens.settle([f"written {number}"], "a")
    gc.collect()

    assert len(tokens._tags) == len(kept)
    assert not tokens._announced


def test_a_commit_whose_end_nobody_knows_keeps_the_token_away_for_the_intents_time():
    now = 0.0
    tokens = LocalTokens(60, lambda: now)
    tokens.announce(["product"], "ambiguous")

    now = 59.9
    assert tokens.stamp(["product"]) is None
    now = 60.1
    assert tokens.stamp(["product"]) is not None


def test_settling_twice_or_what_was_never_announced_changes_nothing():
    tokens = LocalTokens()
    stamp = tokens.stamp(["product"])
    tokens.settle(["product"], "never announced")
    tokens.announce(["user"], "a")
    tokens.settle(["user", "product"], "a")
    tokens.settle(["user", "product"], "a")

    assert tokens.holds(stamp)


def test_threads_see_nothing_stale():  # noqa: C901 - a writer and a reader, as the protocol says
    """A value that changes under announcements, and readers that keep what they read as the protocol says."""
    tokens = LocalTokens()
    database, acknowledged, stale = [0], [0], []
    entry: list[tuple[object, int] | None] = [None]
    is_over = threading.Event()

    def write(name):
        for number in range(2_000):
            transaction = f"{name}{number}"
            tokens.announce(["t"], transaction)
            with lock:
                database[0] += 1
                version = database[0]
            tokens.settle(["t"], transaction)
            acknowledged[0] = max(acknowledged[0], version)

    def read():
        while not is_over.is_set():
            floor = acknowledged[0]
            found = entry[0]
            if found is not None and tokens.holds(found[0]):
                if found[1] < floor:
                    stale.append((found[1], floor))
                continue
            stamp = tokens.stamp(["t"])
            value = database[0]
            if stamp is not None:
                entry[0] = (stamp, value)

    lock = threading.Lock()
    writers = [threading.Thread(target=write, args=(name,)) for name in "ab"]
    readers = [threading.Thread(target=read) for _ in range(2)]
    for thread in (*writers, *readers):
        thread.start()
    for thread in writers:
        thread.join()
    is_over.set()
    for thread in readers:
        thread.join()

    assert stale == []
    assert entry[0] is not None
