"""Tokens of the processes of one host."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import settings

from tests.unit.cache.tokens.conformance import INTENT_SECONDS, CarrierMachine
from upshift.cache.tokens import page
from upshift.cache.tokens.page import GRACE_SECONDS, MAX_INTENTS, PageTokens
from upshift.errors import SettingsError


class PageMachine(CarrierMachine):
    def make_views(self):
        self.folder = tempfile.TemporaryDirectory()
        path = Path(self.folder.name) / "page"
        return [PageTokens(path, INTENT_SECONDS, lambda: int(self.now * 1e9) + 1) for _ in range(2)]

    def pass_time(self, seconds):
        pass  # their clock is the machine's

    def teardown(self):
        assert [view.faults for view in self.views] == [0, 0]
        for view in self.views:
            view.close()
        self.folder.cleanup()


PageMachine.TestCase.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
TestPageTokens = PageMachine.TestCase


class Clock:
    def __init__(self):
        self.seconds = 1_000.0

    def __call__(self):
        return int(self.seconds * 1e9)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "page"


@pytest.fixture
def tokens(path, clock):
    tokens = PageTokens(path, clock=clock)
    yield tokens
    tokens.close()


OTHER = """
import sys, time
from pathlib import Path
from upshift.cache.tokens.page import PageTokens
tokens = PageTokens(Path(sys.argv[1]))
{what}
print("ready", flush=True)
time.sleep(60)
"""


def start(path, what):
    process = subprocess.Popen(
        [sys.executable, "-c", OTHER.format(what=what), str(path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    return process


def end(process):
    process.kill()
    process.wait()
    process.stdout.close()


def test_another_process_takes_tokens_away(path, tokens, clock):
    clock.seconds = time.monotonic()
    stamp = tokens.stamp(["product"])
    other = start(path, "tokens.announce(['product'], 'a'); tokens.settle(['product'], 'a')")
    end(other)

    assert not tokens.holds(stamp)
    assert tokens.holds(tokens.stamp(["product"]))


def test_the_intents_of_a_killed_process_end_after_a_grace(path, tokens, clock):
    clock.seconds = time.monotonic()
    other = start(path, "tokens.announce(['product'], 'a')")
    assert tokens.stamp(["product"]) is None
    os.kill(other.pid, signal.SIGKILL)
    end(other)

    assert tokens.stamp(["product"]) is None  # its COMMIT may be on the way
    clock.seconds += GRACE_SECONDS - 0.1
    assert tokens.stamp(["product"]) is None
    clock.seconds += 0.2
    assert tokens.stamp(["product"]) is not None


def test_a_new_process_does_not_keep_the_intents_of_a_dead_one_alive(path, tokens, clock):
    clock.seconds = time.monotonic()
    end(start(path, "tokens.announce(['product'], 'a')"))
    heir = PageTokens(path, clock=clock)

    assert heir.stamp(["product"]) is None
    clock.seconds += GRACE_SECONDS + 0.1
    assert heir.stamp(["product"]) is not None
    heir.close()


def test_a_stopped_process_keeps_its_intents(path, tokens, clock):
    clock.seconds = time.monotonic()
    other = start(path, "tokens.announce(['product'], 'a')")
    os.kill(other.pid, signal.SIGSTOP)

    assert tokens.stamp(["product"]) is None
    clock.seconds += GRACE_SECONDS + 1
    assert tokens.stamp(["product"]) is None  # it lives, and may commit yet
    end(other)


def test_one_who_is_stopped_with_the_lock_stops_nobody(path, tokens, clock):
    stamp = tokens.stamp(["product"])
    clock.seconds = time.monotonic()
    other = start(path, "from upshift.locks import try_lock; assert try_lock(tokens._file)")
    os.kill(other.pid, signal.SIGSTOP)

    tokens.announce(["product"], "a")
    assert not tokens.holds(stamp)
    assert tokens.stamp(["user"]) is None  # closed: it cannot be told who writes what
    tokens.settle(["product"], "a")
    end(other)
    assert tokens.stamp(["user"]) is None
    clock.seconds += INTENT_SECONDS + 0.1
    assert tokens.stamp(["product", "user"]) is not None
    assert tokens.faults == 2


def test_a_full_list_closes_the_page_for_the_time_of_an_intent(tokens, clock):
    stamp = tokens.stamp(["x"])
    for number in range(MAX_INTENTS // 64):
        tokens.announce([f"tag {number} {each}" for each in range(64)], str(number))
    assert tokens._words[page._COUNT] > MAX_INTENTS - 100
    tokens.announce([f"x{number}" for number in range(100)] + ["x"], "last")

    assert not tokens.holds(stamp)
    assert tokens.stamp(["something else"]) is None
    clock.seconds += INTENT_SECONDS + 0.1
    assert tokens.stamp(["x", "something else"]) is not None


def test_a_clock_that_begins_anew_keeps_nothing_away_for_ever(path, tokens, clock):
    tokens.announce(["product"], "a")
    clock.seconds = 1.0  # the host was booted, and the file was kept

    assert tokens.stamp(["product"]) is not None


def test_a_forked_child_has_intents_of_its_own(path, tokens, clock):
    clock.seconds = time.monotonic()
    child = os.fork()
    if not child:
        tokens.announce(["product"], "of the child")
        os._exit(0)
    os.waitpid(child, 0)

    assert tokens.stamp(["product"]) is None
    clock.seconds += GRACE_SECONDS + 0.1  # the child is dead, though this process lives
    assert tokens.stamp(["product"]) is not None


def test_tags_of_one_slot_are_invalidated_together(tokens, monkeypatch):
    monkeypatch.setattr(page, "_slot", lambda _tag: 7)
    stamp = tokens.stamp(["user"])
    tokens.announce(["product"], "a")
    assert not tokens.holds(stamp)
    tokens.settle(["product"], "a")

    assert tokens.stamp(["user"]) is not None


@pytest.mark.parametrize("content", [b"something else", bytes(page._SIZE - 1), b"x" * page._SIZE])
def test_a_file_that_is_no_page_is_refused_and_left_alone(path, content):
    path.write_bytes(content)
    path.chmod(0o600)

    with pytest.raises(SettingsError, match="is no page of this version"):
        PageTokens(path)
    assert path.read_bytes() == content


def test_a_file_that_others_can_write_is_refused(path):
    path.touch()
    path.chmod(0o666)

    with pytest.raises(SettingsError, match="cannot be used"):
        PageTokens(path)


def test_closing_twice_does_nothing_more(path):
    tokens = PageTokens(path)
    tokens.close()
    tokens.close()
