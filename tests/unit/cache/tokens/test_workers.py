"""The page that workers of one server find without being told."""

from __future__ import annotations

import logging
import multiprocessing
import os
import subprocess
import sys
import tempfile

import pytest

from upshift.cache import Cache
from upshift.cache.tokens.page import PageTokens
from upshift.cache.tokens.workers import find_page, remove_abandoned
from upshift.record.server import started_at


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    yield tmp_path
    tempfile.tempdir = None


@pytest.fixture
def ended_pid():
    with subprocess.Popen([sys.executable, "-c", "pass"]) as process:
        process.wait()
    return process.pid


def page_of(folder, pid, started=1):
    return folder / f"upshift-{os.geteuid()}-cache.0123abcd-{pid}-{started}.page"


def work(to_parent, from_parent):
    """A worker: keeps a value, and says whether it is served after another has ended it."""
    cache = Cache()
    to_parent.send(cache.state().place)
    cache.set("rate", 32.5, tags=["rates"])
    to_parent.send(cache.get("rate"))
    if from_parent.recv() == "end":
        cache.invalidate("rates")
    to_parent.send("done")
    from_parent.recv()
    to_parent.send(cache.get("rate"))


def test_workers_of_one_server_see_what_the_others_end(folder):
    context = multiprocessing.get_context("spawn")
    workers = []
    for _ in range(2):
        (mine, its), (theirs, ours) = context.Pipe(duplex=False), context.Pipe(duplex=False)
        process = context.Process(target=work, args=(its, theirs), daemon=True)
        process.start()
        workers.append((process, mine, ours))
    assert [told.recv() for _, told, _ in workers] == ["page", "page"]
    assert [told.recv() for _, told, _ in workers] == [32.5, 32.5]
    for command, (_, told, send) in zip(("end", "wait"), workers, strict=True):
        send.send(command)
        assert told.recv() == "done"
    for _, _, send in workers:
        send.send("look")
    assert [told.recv() for _, told, _ in workers] == [None, None]
    for process, *_ in workers:
        process.join(30)
        assert process.exitcode == 0


def test_a_process_of_its_own_has_no_page(folder):
    assert find_page("default") is None
    assert Cache().state().place == "process"
    assert list(folder.iterdir()) == []


def test_caches_of_other_names_have_other_pages(folder, monkeypatch):
    monkeypatch.setattr("upshift.cache.tokens.workers.find_server", os.getpid)
    assert find_page("one") != find_page("other")
    assert find_page("one") == find_page("one")
    one, other = Cache(), Cache()
    assert one.state().page == other.state().page
    one.set("rate", 32.5, tags=["rates"])
    other.invalidate("rates")
    assert one.get("rate") is None


def test_a_page_that_cannot_be_used_leaves_each_worker_its_own(folder, monkeypatch, caplog):
    monkeypatch.setattr("upshift.cache.tokens.workers.find_server", os.getpid)
    find_page("default").write_bytes(b"something else")
    with caplog.at_level(logging.WARNING, "upshift.cache"):
        cache = Cache()
    assert cache.state().place == "process"
    assert "do not see what the others write" in caplog.text


def test_pages_of_ended_servers_are_removed_unless_a_worker_uses_them(folder, ended_pid):
    used, unused = PageTokens(page_of(folder, ended_pid)), page_of(folder, ended_pid, started=2)
    unused.touch(0o600)
    other = folder / f"upshift-{os.geteuid()}-cache.page"
    other.touch(0o600)

    remove_abandoned(folder)
    assert sorted(folder.iterdir()) == sorted([page_of(folder, ended_pid), other])

    used.close()
    remove_abandoned(folder)
    assert list(folder.iterdir()) == [other]


def test_the_page_of_a_living_server_stays(folder):
    path = page_of(folder, os.getpid(), started_at(os.getpid()))
    path.touch(0o600)
    remove_abandoned(folder)
    assert path.exists()
