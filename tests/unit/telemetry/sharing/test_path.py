"""Which file a process shares, and which old ones are removed."""

import os
import subprocess
import sys
import tempfile

import pytest

from upshift.record.server import find_server
from upshift.telemetry.sharing.path import find_path, numbered, remove_abandoned
from upshift.telemetry.sharing.totals import SharedTotals


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.delenv("SERVER_SOFTWARE", raising=False)
    return tmp_path


@pytest.fixture
def in_gunicorn(monkeypatch):
    monkeypatch.setenv("SERVER_SOFTWARE", "gunicorn/27.0.1")


def name(folder, pid, started=1, suffix=".v1.totals"):
    return folder / f"upshift-{os.geteuid()}-shop.abc-{pid}-{started}{suffix}"


@pytest.fixture
def ended_pid():
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


def test_a_process_that_is_no_worker_has_no_file():
    assert find_path("shop") is None


def test_an_explicit_path_wins(tmp_path, in_gunicorn):
    assert find_path("shop", str(tmp_path / "mine")) == tmp_path / "mine"


def test_the_name_tells_services_of_one_server_apart(folder, in_gunicorn):
    first, again, second = find_path("my shop"), find_path("my shop"), find_path("my/shop")

    assert first == again != second
    assert first.parent == second.parent == folder


def test_each_further_instance_has_a_file_of_its_own_beside_the_first(folder, in_gunicorn):
    first = find_path("shop")

    assert numbered(first, 1) == first
    assert numbered(first, 2) == first.with_name(first.name.replace(".totals", ".2.totals"))
    assert numbered(folder / "mine", 3) == folder / "mine.3"


@pytest.mark.skipif(sys.platform != "linux", reason="told by the stack's address in /proc")
def test_gunicorn_that_loads_the_application_itself_is_its_own_server(in_gunicorn):
    script = (
        "import os; from upshift.record.server import find_server\n"
        "assert find_server() == os.getpid()\n"
        "parent = os.getpid()\n"
        "child = os.fork()\n"
        "if child == 0: os._exit(find_server() != parent)\n"
        "assert os.waitpid(child, 0)[1] == 0\n"
    )

    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_a_child_of_a_single_process_is_no_worker():
    assert find_server() is None


def test_files_of_ended_servers_are_removed_whatever_their_version(folder, ended_pid):
    for suffix in (".v1.totals", ".v2.totals", ".v1.2.totals"):
        name(folder, ended_pid, suffix=suffix).touch(0o600)
    remove_abandoned(folder)

    assert list(folder.iterdir()) == []


def test_a_file_of_an_ended_server_stays_while_a_worker_uses_it(folder, ended_pid):
    path = name(folder, ended_pid)
    worker = SharedTotals(path, list)
    worker.totals()
    remove_abandoned(folder)
    assert path.exists()

    worker.close()
    remove_abandoned(folder)
    assert not path.exists()


def test_the_file_of_a_living_server_stays(folder, monkeypatch, in_gunicorn):
    path = find_path("shop")
    path.touch(0o600)
    remove_abandoned(folder)

    assert path.exists()


def test_other_files_stay(folder, ended_pid):
    others = [folder / "upshift-notes.totals", name(folder, ended_pid, suffix=".txt")]
    link = name(folder, ended_pid)
    target = folder / "target"
    for each in (*others, target):
        each.touch(0o600)
    link.symlink_to(target)
    remove_abandoned(folder)

    assert sorted(folder.iterdir()) == sorted([*others, link, target])
