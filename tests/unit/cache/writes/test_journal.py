"""The journal: what was acknowledged is replayed wherever the process ends, and nothing old comes back."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from upshift.cache.writes import journal as journals
from upshift.cache.writes.journal import Journal, orphans
from upshift.cache.writes.pending import Pending, Waiting
from upshift.cache.writes.records import Done, Put, pack


def replayed(folder):
    return [(each.key, each.data) for orphan in orphans(folder) for each in orphan.replay().writes]


@pytest.fixture
def journal(tmp_path):
    return Journal(tmp_path, segment_bytes=100)


def put(journal, number, key, data=b"x"):
    return journal.append(pack(Put(number, key, data)), is_durable=True)


def test_the_journal_of_a_living_process_is_nobody_elses(journal, tmp_path):
    put(journal, 1, "a")
    assert replayed(tmp_path) == []
    journal.close(is_needed=True)
    assert replayed(tmp_path) == [("a", b"x")]


def test_a_full_segment_is_followed_by_another(journal, tmp_path):
    numbers = [put(journal, each, str(each), b"x" * 60) for each in range(1, 6)]
    assert numbers == [1, 1, 2, 2, 3]
    journal.close(is_needed=True)
    assert len(replayed(tmp_path)) == 5


def test_segments_go_from_the_oldest_on(journal, tmp_path):
    for each in range(1, 10):
        put(journal, each, str(each), b"x" * 60)
    journal.trim(3)
    assert journal.oldest == 3
    journal.trim(None)
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".journal", ".lock"]


def test_a_journal_that_is_not_needed_leaves_nothing(journal, tmp_path):
    put(journal, 1, "a")
    journal.close(is_needed=False)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_appended_to_a_file_to_which_a_write_has_failed(journal, tmp_path, monkeypatch):
    put(journal, 1, "a")

    def fail(file):
        raise OSError(errno.EIO, "gone")

    with monkeypatch.context() as patched:
        patched.setattr(journals, "sync", fail)
        with pytest.raises(OSError, match="gone"):
            put(journal, 2, "b")
    assert put(journal, 3, "c") == 2
    journal.close(is_needed=True)
    assert replayed(tmp_path) == [("a", b"x"), ("c", b"x")]


def test_a_segment_that_cannot_be_begun_leaves_no_file(journal, tmp_path, monkeypatch):
    def fail(folder):
        raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as patched:
        patched.setattr(journals, "sync_folder", fail)
        with pytest.raises(OSError, match="full"):
            put(journal, 1, "a")
    assert [path.suffix for path in tmp_path.iterdir()] == [".lock"]
    put(journal, 2, "b")


def test_links_and_files_of_others_are_left_alone(tmp_path):
    target = tmp_path / "elsewhere"
    target.write_text("")
    (tmp_path / "a.lock").symlink_to(target)
    (tmp_path / "b.lock").write_text("")
    (tmp_path / "b.lock").chmod(0o666)
    assert list(orphans(tmp_path)) == []


def test_an_orphan_is_taken_by_one_only(journal, tmp_path):
    put(journal, 1, "a")
    journal.close(is_needed=True)
    taking = orphans(tmp_path)
    next(taking)
    assert list(orphans(tmp_path)) == []
    taking.close()
    assert len(list(orphans(tmp_path))) == 1


class Machine(RuleBasedStateMachine):
    """A process that puts, flushes and dies at any byte of what was not synced; the next one takes over.

    The database has what was flushed. Whatever happens, each key has its last acknowledged value there, or in
    what a replay would flush; and a replay brings back no value older than one that was flushed.
    """

    @initialize()
    def begin(self):
        self.place = tempfile.TemporaryDirectory()
        self.patched = pytest.MonkeyPatch()
        for name in ("sync", "sync_folder"):  # here nobody cuts the power, and what was not synced is cut off
            self.patched.setattr(journals, name, lambda file: None)
        self.folder = Path(self.place.name)
        self.acknowledged: dict[int, int] = {}
        self.flushed: dict[int, int] = {}
        self.version = 0
        self.open()

    def open(self):
        self.pending, self.done, self.number = Pending(), [], 0
        self.journal = Journal(self.folder, segment_bytes=150)
        self.durable: dict[Path, int] = {}
        for orphan in orphans(self.folder):
            writes = orphan.replay().writes
            for each in writes:
                self.append(each.key, each.data)
            orphan.remove()

    def append(self, key, data):
        self.number += 1
        segment = self.journal.append(pack(Put(self.number, key, data)), is_durable=True)
        self.pending.put(Waiting(self.number, key, data, 0.0, segment))
        self.note_durable()

    def note_durable(self):
        self.durable = {path: path.stat().st_size for path in self.folder.glob("*.journal")}

    @rule(key=st.integers(0, 4))
    def put(self, key):
        self.version += 1
        self.append(key, b"%d" % self.version)
        self.acknowledged[key] = self.version

    @rule(most=st.integers(1, 5))
    def flush(self, most):
        for each in self.pending.batch(most):
            assert int(each.data) >= self.flushed.get(each.key, 0)
            self.flushed[each.key] = int(each.data)
            self.pending.remove(each)
            self.done.append(each.number)

    @precondition(lambda self: self.done)
    @rule(is_durable=st.booleans())
    def tell(self, is_durable):
        """Note what was flushed: that may be lost."""
        self.journal.append(pack(Done(tuple(self.done))), is_durable=is_durable)
        self.done = []
        if is_durable:
            self.note_durable()
        self.journal.trim(self.pending.oldest_segment())

    @precondition(lambda self: self.pending.entries)
    @rule()
    def carry_forward(self):
        left = self.pending.within(self.journal.oldest)
        segment = self.journal.append(
            b"".join(pack(Put(each.number, each.key, each.data)) for each in left), is_durable=True
        )
        for each in left:
            self.pending.move(each, segment)
        self.note_durable()
        self.journal.trim(self.pending.oldest_segment())

    @rule(torn=st.binary(max_size=30), data=st.data())
    def die(self, torn, data):
        """End in the midst of a write, with any part of what was not synced on the disk."""
        self.journal.append(torn + pack(Done(tuple(self.done))), is_durable=False)
        self.journal.close(is_needed=True)
        for path in self.folder.glob("*.journal"):
            size, durable = path.stat().st_size, self.durable.get(path, 0)
            if size > durable:
                os.truncate(path, data.draw(st.integers(durable, size)))
        self.open()

    @rule()
    def end(self):
        self.journal.close(is_needed=bool(self.pending.entries))
        self.open()

    @invariant()
    def nothing_is_lost(self):
        for key, version in self.acknowledged.items():
            waiting = self.pending.entries.get(key)
            newest = int(waiting.data) if waiting is not None else self.flushed.get(key, 0)
            assert newest == version
            # Values are set in order: none that is flushed yet is older than one that was before.
            assert waiting is None or int(waiting.data) >= self.flushed.get(key, 0)

    @invariant()
    def the_journal_is_bounded(self):
        if not self.pending.entries:
            self.journal.trim(None)
            assert len(list(self.folder.glob("*.journal"))) <= 1

    def teardown(self):
        self.journal.close(is_needed=False)
        self.patched.undo()
        self.place.cleanup()


Machine.TestCase.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
TestJournalMachine = Machine.TestCase
