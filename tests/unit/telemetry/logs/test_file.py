"""Log files: shared, moved aside when large, and moved, removed and truncated by others."""

import errno
import fcntl
import os
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upshift.errors import SettingsError
from upshift.telemetry.logs import file as module
from upshift.telemetry.logs.file import FileSink, check_file


@pytest.fixture
def path(tmp_path):
    return tmp_path / "shop.log"


@pytest.fixture
def sink(path):
    sinks = []

    def make(rotate_bytes=0, rotate_count=5):
        sinks.append(FileSink(path, rotate_bytes, rotate_count))
        return sinks[-1]

    yield make
    for each in sinks:
        each.close()


def write(sink, *lines):
    data = b"".join(lines)
    start = 0
    while start < len(data):
        start = sink.write(data, start)


def contents(path):
    return {each.name: each.read_bytes() for each in path.parent.iterdir() if each.suffix != ".lock"}


def test_lines_are_added_to_what_the_file_has(path, sink):
    path.write_bytes(b"before\n")
    write(sink(), b"after\n")
    assert path.read_bytes() == b"before\nafter\n"


def test_a_new_file_can_be_read_by_the_group_and_written_by_the_user_alone(path, sink):
    before = os.umask(0)
    try:
        write(sink(), b"line\n")
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_large_file_is_moved_aside_and_the_oldest_ones_go(path, sink):
    ours = sink(rotate_bytes=10, rotate_count=2)
    for number in range(5):
        write(ours, b"line %d..\n" % number)
    assert contents(path) == {
        "shop.log": b"line 4..\n",
        "shop.log.1": b"line 3..\n",
        "shop.log.2": b"line 2..\n",
    }


@pytest.mark.parametrize(("rotate_bytes", "rotate_count"), [(0, 5), (10, 0)])
def test_a_file_is_never_moved_where_either_number_is_zero(path, sink, rotate_bytes, rotate_count):
    ours = sink(rotate_bytes, rotate_count)
    for _ in range(5):
        write(ours, b"123456789\n")
    assert contents(path) == {"shop.log": b"123456789\n" * 5}


def test_a_line_longer_than_a_file_may_be_has_a_file_of_its_own(path, sink):
    ours = sink(rotate_bytes=10)
    write(ours, b"short\n")
    write(ours, b"x" * 200_000 + b"\n")
    write(ours, b"short\n")
    assert [len(each) for each in contents(path).values()].count(200_001) == 1
    assert contents(path).keys() == {"shop.log", "shop.log.1", "shop.log.2"}


def test_a_large_batch_is_spread_over_files_of_the_right_size(path, sink):
    ours = sink(rotate_bytes=100_000, rotate_count=50)
    write(ours, b"123456789\n" * 100_000)
    files = contents(path)
    assert sum(map(len, files.values())) == 1_000_000
    assert all(each.endswith(b"\n") for each in files.values())
    assert max(map(len, files.values())) <= 100_000


def test_two_in_one_process_share_a_file(path, sink):
    one, other = sink(rotate_bytes=100, rotate_count=1_000), sink(rotate_bytes=100, rotate_count=1_000)
    for number in range(200):
        write(one if number % 2 else other, b"%d\n" % number)
    lines = b"".join(contents(path).values()).splitlines()
    assert sorted(map(int, lines)) == list(range(200))


def test_a_gap_among_the_files_moved_aside_is_filled_before_the_oldest_goes(path, sink):
    for name in ("shop.log", "shop.log.1", "shop.log.3"):
        (path.parent / name).write_bytes(name.encode() + b"\n")
    write(sink(rotate_bytes=10, rotate_count=3), b"new line\n")
    assert contents(path) == {
        "shop.log": b"new line\n",
        "shop.log.1": b"shop.log\n",
        "shop.log.2": b"shop.log.1\n",
        "shop.log.3": b"shop.log.3\n",
    }


def test_a_file_moved_by_others_is_made_anew(path, sink):
    ours = sink()
    write(ours, b"1\n")
    path.rename(path.with_name("moved"))
    write(ours, b"2\n")
    assert contents(path) == {"shop.log": b"2\n", "moved": b"1\n"}


def test_a_file_moved_and_replaced_by_others_is_left_for_the_new_one(path, sink):
    ours = sink()
    write(ours, b"1\n")
    path.rename(path.with_name("moved"))
    path.touch(0o640)
    write(ours, b"2\n")
    assert contents(path) == {"shop.log": b"2\n", "moved": b"1\n"}


def test_a_file_removed_by_others_is_made_anew(path, sink):
    ours = sink()
    write(ours, b"1\n")
    path.unlink()
    write(ours, b"2\n")
    assert path.read_bytes() == b"2\n"


def test_a_file_truncated_by_others_goes_on_from_its_start(path, sink):
    ours = sink(rotate_bytes=100)
    write(ours, b"x" * 90 + b"\n")
    os.truncate(path, 0)
    write(ours, b"after\n")
    assert contents(path) == {"shop.log": b"after\n"}


def test_half_a_line_of_one_who_was_killed_is_ended_first(path, sink):
    path.write_bytes(b'whole\n{"half')
    write(sink(), b"new\n")
    assert path.read_bytes() == b'whole\n{"half\nnew\n'


def limited(monkeypatch, room):
    """Let the next writes take `room` bytes, as a disk does that is nearly full."""
    real = os.write

    def limited_write(file, data):
        if not room[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        taken = min(room[0], len(data))
        room[0] -= taken
        return real(file, data[:taken])

    monkeypatch.setattr(module.os, "write", limited_write)


@given(rooms=st.lists(st.integers(0, 30), max_size=8))
@settings(max_examples=100)
def test_whatever_room_a_full_disk_gives_every_line_is_whole_in_the_end(tmp_path_factory, rooms):
    path = tmp_path_factory.mktemp("disk") / "shop.log"
    sink = FileSink(path, 0, 0)
    data = b"".join(b"<line %d>\n" % number for number in range(12))
    room, start = [0], 0
    with pytest.MonkeyPatch.context() as monkeypatch:
        limited(monkeypatch, room)
        for each in [*rooms, 10_000]:
            room[0] = each
            with suppress(OSError):
                while start < len(data):
                    start = sink.write(data, start)
    sink.close()
    lines = [line for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b">\n")]
    assert b"".join(lines) == data


def test_a_folder_that_does_not_exist_yet_is_a_fault_until_it_does(tmp_path):
    ours = FileSink(tmp_path / "later" / "shop.log", 0, 0)
    with pytest.raises(FileNotFoundError):
        ours.write(b"1\n", 0)
    (tmp_path / "later").mkdir()
    write(ours, b"1\n")
    ours.close()
    assert (tmp_path / "later" / "shop.log").read_bytes() == b"1\n"


def test_a_file_that_cannot_be_moved_aside_grows_on_after_one_fault(path, sink, monkeypatch):
    monkeypatch.setattr(module, "LOCK_SECONDS", 0.02)
    ours = sink(rotate_bytes=10)
    write(ours, b"123456789\n")
    with path.with_name("shop.log.lock").open("w") as lock:
        path.with_name("shop.log.lock").chmod(0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(TimeoutError):
            ours.write(b"next\n", 0)
        write(ours, b"next\n", b"last\n")
    assert contents(path) == {"shop.log": b"123456789\nnext\nlast\n"}


def test_two_who_find_the_file_large_at_once_move_it_aside_once(path, sink):
    both = [sink(rotate_bytes=10), sink(rotate_bytes=10)]
    write(both[0], b"123456789\n")
    with path.with_name("shop.log.lock").open("w") as lock, ThreadPoolExecutor() as pool:
        path.with_name("shop.log.lock").chmod(0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        writing = [pool.submit(write, each, b"x\n") for each in both]
        while any(each._lock is None for each in both):
            time.sleep(0.001)
        fcntl.flock(lock, fcntl.LOCK_UN)
        for each in writing:
            each.result(10)
    assert contents(path) == {"shop.log": b"x\nx\n", "shop.log.1": b"123456789\n"}


def test_moving_aside_is_tried_again_later(path, sink, monkeypatch):
    ours = sink(rotate_bytes=10)
    write(ours, b"123456789\n")
    ours._rotate_from = time.monotonic() + 60
    write(ours, b"x\n")
    assert "shop.log.1" not in contents(path)
    ours._rotate_from = time.monotonic()
    write(ours, b"y\n")
    assert contents(path)["shop.log.1"] == b"123456789\nx\n"


def test_no_file_is_left_open(path, sink):
    before = len(list(Path("/proc/self/fd").iterdir()))
    ours = sink(rotate_bytes=10)
    for _ in range(10):
        write(ours, b"123456789\n")
    ours.close()
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def refuse(path, word):
    with pytest.raises(
        SettingsError, match=r"log_file \(UPSHIFT_LOG_FILE\) is .*cannot be a log file"
    ) as refused:
        check_file("log_file (UPSHIFT_LOG_FILE)", path)
    assert word in str(refused.value)


def test_a_folder_is_refused(tmp_path):
    refuse(tmp_path, "directory")


def test_a_pipe_is_refused_and_not_waited_for(path):
    os.mkfifo(path)
    refuse(path, "plain file")


def test_a_socket_is_refused(path):
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        refuse(path, "No such device")


def test_a_device_is_refused():
    refuse(Path("/dev/full"), "plain file")


def test_a_link_is_refused(path):
    path.symlink_to(path.with_name("elsewhere"))
    refuse(path, "symbolic links")


def test_a_file_that_others_can_write_to_is_refused(path):
    path.touch()
    path.chmod(0o666)
    refuse(path, "plain file")


def test_a_file_that_the_group_can_read_is_fine(path):
    path.touch()
    path.chmod(0o640)
    check_file("log_file", path)


def test_a_file_system_without_locks_is_refused(path, monkeypatch):
    def no_locks(file, operation):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    refuse(path, "No locks available")


def test_a_folder_that_is_not_there_is_not_refused(tmp_path):
    check_file("log_file", tmp_path / "later" / "shop.log")


def test_looking_leaves_no_log_file_behind(path):
    check_file("log_file", path)
    assert not path.exists()
