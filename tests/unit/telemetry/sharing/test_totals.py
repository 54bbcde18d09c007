"""Several instances of SharedTotals on one file, each as one worker would have it."""

import gc
import logging
import os
import signal
import struct
import threading
import time
import warnings
import weakref
from array import array
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upshift.telemetry.sharing import file as shared_file
from upshift.telemetry.sharing.file import MAX_GAUGES, MAX_PROCESSES, SIZE, TotalsFile
from upshift.telemetry.sharing.totals import FLUSH_SECONDS, Series, SharedTotals


class Worker:
    """One worker's series and its end of the file."""

    def __init__(self, path) -> None:
        self.series: dict[bytes, Series] = {}
        self.shared = SharedTotals(path, lambda: list(self.series.values()))

    def add(self, key: bytes, *numbers: float, kind="counter") -> None:
        series = self.series.setdefault(key, Series(key, kind, array("d", bytes(8 * len(numbers)))))
        for index, number in enumerate(numbers):
            series.values[index] += number

    def set(self, key: bytes, number: float) -> None:
        self.series[key] = Series(key, "gauge", array("d", [number]))

    def total(self, key: bytes) -> list[float] | None:
        total = self.shared.totals().get(key)
        return None if total is None else total[1]

    def die(self) -> None:
        """As by SIGKILL: the kernel closes the file, and nothing is flushed."""
        if self.shared._file is not None:
            self.shared._file.close()
            self.shared._file = None
        self.shared._closed = True


@pytest.fixture
def path(tmp_path):
    return tmp_path / "totals"


@pytest.fixture
def worker(path):
    workers = []

    def make(path=path) -> Worker:
        workers.append(Worker(path))
        return workers[-1]

    yield make
    for each in workers:
        each.shared.close()


def in_child(work) -> None:
    """Run `work` in a forked child, and fail where it failed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of forks beside threads
        pid = os.fork()
    if pid == 0:
        status = 1
        with suppress(BaseException):
            work()
            status = 0
        os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0


def test_any_worker_tells_the_sum_of_what_all_have_flushed(worker):
    first, second = worker(), worker()
    first.add(b"orders", 2)
    second.add(b"orders", 5)
    first.shared.flush()

    assert second.shared.totals() == {b"orders": ("counter", [7.0])}


def test_a_scrape_has_what_its_own_worker_counted_up_to_now(worker):
    one = worker()
    one.add(b"orders", 2)
    one.shared.flush()
    one.add(b"orders", 1)

    assert one.total(b"orders") == [3.0]


def test_a_flush_adds_only_what_is_new(worker):
    one = worker()
    one.add(b"orders", 2)
    for _ in range(3):
        one.shared.flush()

    assert one.total(b"orders") == [2.0]


def test_each_number_of_a_histogram_is_added_up(worker):
    first, second = worker(), worker()
    first.add(b"seconds", 1, 0, 0.5, kind="histogram")
    second.add(b"seconds", 1, 3, 0.25, kind="histogram")
    first.shared.flush()

    assert second.shared.totals() == {b"seconds": ("histogram", [2.0, 3.0, 0.75])}


def test_a_series_that_nobody_has_counted_yet_is_there(worker):
    first, second = worker(), worker()
    first.add(b"orders", 0)
    first.shared.flush()

    assert second.total(b"orders") == [0.0]


def test_a_worker_sees_series_that_others_declare_later(worker):
    first, second = worker(), worker()
    first.add(b"orders", 1)
    assert second.shared.totals() == {}
    first.shared.flush()
    assert second.total(b"orders") == [1.0]
    first.add(b"refunds", 4)
    first.shared.flush()

    assert second.total(b"refunds") == [4.0]


def test_counts_of_a_killed_worker_stay(worker):
    first, second = worker(), worker()
    first.add(b"orders", 2)
    first.shared.flush()
    first.add(b"orders", 1)
    first.die()

    assert second.total(b"orders") == [2.0]


def test_a_worker_that_closes_leaves_all_its_counts(worker):
    first, second = worker(), worker()
    first.add(b"orders", 2)
    first.shared.close()

    assert second.total(b"orders") == [2.0]


def test_a_closed_worker_still_tells_its_own_counts(worker):
    one = worker()
    one.add(b"orders", 2)
    one.shared.close()
    one.shared.close()
    one.shared.flush()

    assert one.total(b"orders") == [2.0]


def test_gauges_are_added_up_over_living_workers(worker):
    first, second, third = worker(), worker(), worker()
    for number, each in enumerate((first, second, third), 1):
        each.set(b"in_flight", number)
        each.shared.flush()
    first.die()
    second.shared.close()

    assert third.total(b"in_flight") == [3.0]


def test_a_gauge_is_what_it_was_set_to_last(worker):
    first, second = worker(), worker()
    first.set(b"in_flight", 5)
    first.shared.flush()
    first.set(b"in_flight", 2)
    first.shared.flush()

    assert second.shared.totals() == {b"in_flight": ("gauge", [2.0])}


def test_the_slot_of_a_dead_worker_is_used_again_without_its_gauges(worker):
    first, watcher = worker(), worker()
    watcher.shared.totals()
    for _ in range(MAX_PROCESSES + 2):
        first.set(b"in_flight", 7)
        first.shared.flush()
        first.die()
        first = worker()
    first.add(b"orders", 1)
    first.shared.flush()

    assert watcher.total(b"in_flight") == [0.0]
    assert watcher.shared.faults == watcher.shared.dropped == 0


def test_gauges_of_more_workers_than_slots_are_dropped_and_counted(path, worker):
    files = [TotalsFile(path) for _ in range(MAX_PROCESSES)]
    for file in files:
        with file.locked():
            file.refresh()
    late = worker()
    late.set(b"in_flight", 1)
    late.add(b"orders", 1)
    late.shared.flush()
    for file in files:
        file.close()

    assert late.shared.dropped == 1
    assert late.total(b"orders") == [1.0]


@pytest.mark.parametrize(
    ("series", "fit"),
    [
        ([Series(b"g%d" % i, "gauge", array("d", [1.0])) for i in range(MAX_GAUGES + 5)], MAX_GAUGES),
        ([Series(b"x" * 60_000 + b"%d" % i, "counter", array("d", [1.0])) for i in range(40)], 34),
        ([Series(b"h%d" % i, "histogram", array("d", [1.0]) * 200_000) for i in range(4)], 2),
        ([Series(b"x" * 70_000, "counter", array("d", [1.0]))], 0),
    ],
    ids=["gauges", "directory", "totals", "key"],
)
def test_series_that_the_file_has_no_room_for_are_dropped_and_counted(path, series, fit):
    shared = SharedTotals(path, lambda: series)
    totals = shared.totals()
    shared.close()

    assert len(totals) == fit
    assert shared.dropped == len(series) - fit
    assert shared.faults == 0
    assert path.stat().st_size == SIZE


def test_a_series_that_another_worker_declared_in_another_shape_is_dropped(worker):
    first, second = worker(), worker()
    first.add(b"seconds", 1, 2)
    first.shared.flush()
    second.add(b"seconds", 1, 2, 3)

    assert second.total(b"seconds") == [1.0, 2.0]
    assert second.shared.dropped == 1


def test_nothing_is_written_when_nothing_has_changed(path, worker):
    one = worker()
    one.add(b"orders", 1)
    one.set(b"in_flight", 1)
    one.shared.flush()
    before = path.stat().st_mtime_ns
    time.sleep(0.02)
    one.shared.flush()

    assert path.stat().st_mtime_ns == before


def test_the_file_takes_no_more_disk_than_it_needs(path, worker):
    one = worker()
    one.add(b"orders", 1)
    one.shared.flush()

    assert path.stat().st_blocks * 512 <= 64 * 1024
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("length", [0, 4, 10, 40, 4096, SIZE // 2, SIZE + 1])
def test_a_truncated_file_is_mended_and_living_workers_add_their_counts_again(path, worker, length):
    first, second = worker(), worker()
    for number, each in enumerate((first, second), 1):
        each.add(b"orders", number)
        each.set(b"in_flight", number)
        each.shared.flush()
    os.truncate(path, length)
    first.shared.flush()

    assert second.total(b"orders") == [3.0]
    assert second.total(b"in_flight") == [3.0]
    assert first.shared.faults == second.shared.faults == 0


@pytest.mark.parametrize("position", [8, 20, 26, 40, shared_file.DIRECTORY + 3, shared_file.DIRECTORY + 12])
def test_a_damaged_file_of_ours_is_mended(path, worker, position):
    one = worker()
    one.add(b"orders", 2)
    one.shared.close()
    with path.open("r+b") as file:
        file.seek(position)
        file.write(b"\xff\xfe\xfd")
    two = worker()
    two.add(b"orders", 3)

    assert two.total(b"orders") == [3.0]
    assert two.shared.faults == 0


def test_a_removed_file_is_made_again_and_living_workers_add_their_counts_again(path, worker):
    first, second = worker(), worker()
    for number, each in enumerate((first, second), 1):
        each.add(b"orders", number)
        each.shared.flush()
    path.unlink()
    first.shared.flush()

    assert second.total(b"orders") == [3.0]


@pytest.mark.parametrize("content", [b"precious", b"\0" * 64, b"\0" * SIZE + b"end", os.urandom(SIZE)])
def test_a_file_that_was_never_ours_is_left_alone(path, worker, content):
    path.write_bytes(content)
    path.chmod(0o600)
    one = worker()
    one.add(b"orders", 2)

    assert one.total(b"orders") == [2.0]
    assert one.shared.faults == 1
    assert path.read_bytes() == content


def make_other_version(path) -> None:
    with path.open("r+b") as file:
        file.seek(8)
        file.write(struct.pack("=I", 999))


def test_a_file_of_another_version_is_replaced_when_nobody_uses_it(path, worker):
    old = worker()
    old.add(b"orders", 2)
    old.shared.close()
    make_other_version(path)
    new = worker()
    new.add(b"orders", 1)

    assert new.total(b"orders") == [1.0]
    assert new.shared.faults == 0


def test_a_file_of_another_version_that_is_in_use_is_left_alone(path, worker):
    old, new = worker(), worker()
    old.add(b"orders", 2)
    old.shared.flush()
    make_other_version(path)
    new.add(b"orders", 1)

    assert new.total(b"orders") == [1.0]
    assert new.shared.faults == 1


def make_directory(path) -> None:
    path.mkdir()


def make_link(path) -> None:
    target = path.with_name("target")
    target.touch()
    path.symlink_to(target)


def make_hard_link(path) -> None:
    target = path.with_name("target")
    target.touch()
    path.hardlink_to(target)


def make_pipe(path) -> None:
    os.mkfifo(path)


def make_writable_by_all(path) -> None:
    path.touch()
    path.chmod(0o666)


@pytest.mark.parametrize("make", [make_directory, make_link, make_hard_link, make_pipe, make_writable_by_all])
def test_what_another_user_could_have_put_there_is_not_used(path, worker, make):
    make(path)
    one = worker()
    one.add(b"orders", 2)

    assert one.total(b"orders") == [2.0]
    assert one.shared.faults == 1
    target = path.with_name("target")
    assert not target.exists() or target.stat().st_size == 0


def test_without_a_usable_file_faults_are_counted_and_logged_once(tmp_path, worker, caplog):
    one = worker(tmp_path / "missing" / "totals")
    one.add(b"orders", 2)
    with caplog.at_level(logging.WARNING, "upshift.telemetry"):
        one.shared.flush()
        one.shared.flush()

    assert one.total(b"orders") == [2.0]
    assert one.shared.faults == 3
    assert len(caplog.records) == 1


def test_when_the_directory_appears_the_file_is_used(tmp_path, worker):
    first, second = worker(tmp_path / "late" / "totals"), worker(tmp_path / "late" / "totals")
    first.add(b"orders", 2)
    first.shared.flush()
    (tmp_path / "late").mkdir()
    first.shared.flush()
    second.add(b"orders", 1)

    assert second.total(b"orders") == [3.0]


def test_a_full_disk_loses_and_doubles_nothing(worker, monkeypatch):
    first, second = worker(), worker()
    for number in range(2_000):
        first.add(b"orders%d" % number, 1)
    first.shared.flush()
    for number in range(2_000):
        first.add(b"orders%d" % number, 1)
    write, written = os.pwrite, []

    def full_after_one(file, data, position):
        if written:
            raise OSError(28, "No space left on device")
        written.append(position)
        return write(file, data, position)

    monkeypatch.setattr(os, "pwrite", full_after_one)
    first.shared.flush()
    monkeypatch.undo()
    first.shared.flush()

    assert first.shared.faults == 1
    assert {tuple(total) for _, total in second.shared.totals().values()} == {(2.0,)}


def test_a_holder_of_the_lock_that_hangs_delays_a_scrape_only_briefly(path, worker):
    first, second = worker(), worker()
    first.add(b"orders", 2)
    first.shared.flush()
    second.shared.totals()
    holder = TotalsFile(path)
    with holder.locked():
        second.add(b"orders", 1)
        started = time.monotonic()
        behind = second.total(b"orders")
        took = time.monotonic() - started
    holder.close()

    assert behind == [2.0]
    assert took < 2
    assert second.shared.faults == 1
    assert second.total(b"orders") == [3.0]


def test_a_fault_of_the_registry_stays_inside_a_flush(path):
    def broken():
        raise ValueError("changed while it was read")

    shared = SharedTotals(path, broken)
    shared.flush()
    shared.close()

    assert shared.faults == 2


def test_a_forked_child_adds_its_own_counts_and_not_its_parents(worker):
    parent = worker()
    parent.add(b"orders", 2)
    parent.shared.flush()
    parent.add(b"orders", 10)  # not flushed before the fork, and the parent's to flush

    def child() -> None:
        parent.add(b"orders", 100)
        parent.add(b"refunds", 1)
        parent.shared.flush()

    in_child(child)

    assert parent.total(b"orders") == [112.0]
    assert parent.total(b"refunds") == [1.0]


def test_a_forked_child_without_a_usable_file_tells_its_own_counts(tmp_path, worker):
    parent = worker(tmp_path / "missing" / "totals")
    parent.add(b"orders", 2)

    def child() -> None:
        parent.add(b"orders", 5)
        assert parent.total(b"orders") == [5.0]

    in_child(child)


def test_a_forked_child_has_a_slot_of_its_own_and_leaves_the_parents(worker):
    parent = worker()
    parent.set(b"in_flight", 2)
    parent.shared.flush()

    def child() -> None:
        parent.set(b"in_flight", 5)
        assert parent.total(b"in_flight") == [7.0]

    in_child(child)

    assert parent.total(b"in_flight") == [2.0]


def test_a_forked_child_that_serves_nothing_adds_its_counts_and_no_gauges(worker):
    parent, watcher = worker(), worker()
    parent.set(b"in_flight", 2)
    parent.shared.start()
    parent.shared.flush()

    def child() -> None:
        parent.set(b"in_flight", 5)
        parent.add(b"orders", 3)
        parent.shared.flush()
        assert watcher.total(b"orders") == [3.0]
        assert watcher.total(b"in_flight") == [2.0]

    in_child(child)


def test_a_forked_child_that_serves_has_its_gauges_added(worker):
    parent, watcher = worker(), worker()
    parent.set(b"in_flight", 2)
    parent.shared.start()
    parent.shared.flush()

    def child() -> None:
        parent.shared.flush()
        parent.shared.start()
        parent.shared.flush()
        assert watcher.total(b"in_flight") == [4.0]

    in_child(child)

    assert parent.total(b"in_flight") == [2.0]


def test_a_forked_child_that_counts_nothing_writes_nothing(path, worker):
    parent = worker()
    parent.set(b"in_flight", 2)
    parent.add(b"orders", 1)
    parent.shared.flush()

    def child() -> None:
        parent.shared.flush()  # takes a slot
        before = path.stat().st_mtime_ns
        time.sleep(0.02)
        parent.set(b"in_flight", 7)
        parent.shared.flush()
        assert path.stat().st_mtime_ns == before

    in_child(child)


def test_a_fork_while_another_thread_flushes_leaves_the_child_able_to_flush(worker):
    parent = worker()
    stop = threading.Event()

    def flush() -> None:
        while not stop.is_set():
            parent.add(b"orders", 1)
            parent.shared.flush()

    thread = threading.Thread(target=flush)
    thread.start()

    def child() -> None:
        signal.alarm(20)
        parent.add(b"children", 1)
        parent.shared.flush()

    for _ in range(10):
        in_child(child)
    stop.set()
    thread.join()

    assert parent.total(b"orders") == list(parent.series[b"orders"].values)
    assert parent.total(b"children") == [10.0]


def wait_for(total, expected) -> None:
    deadline = time.monotonic() + 10 * FLUSH_SECONDS
    while total() != expected:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_once_started_counts_are_flushed_by_themselves(worker):
    first, second = worker(), worker()
    first.shared.start()
    first.shared.start()
    first.add(b"orders", 2)

    wait_for(lambda: second.total(b"orders"), [2.0])
    assert [thread.name for thread in threading.enumerate()].count("upshift-metrics") == 1


def test_a_started_flusher_goes_on_in_a_forked_child(worker):
    parent, watcher = worker(), worker()
    parent.shared.start()

    def child() -> None:
        parent.add(b"orders", 3)
        wait_for(lambda: watcher.total(b"orders"), [3.0])

    in_child(child)


def test_closing_ends_the_flusher(worker):
    one = worker()
    one.shared.start()
    one.shared.close()

    wait_for(lambda: "upshift-metrics" in [thread.name for thread in threading.enumerate()], False)


def test_totals_that_nobody_holds_are_collected(path):
    shared = SharedTotals(path, list)
    shared.start()
    gone = weakref.ref(shared)
    del shared
    gc.collect()

    assert gone() is None


KEYS = st.sampled_from([b"a", b"b", b"c"])
WHO = st.integers(0, 2)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), WHO, KEYS, st.integers(0, 1_000)),
        st.tuples(st.sampled_from(["flush", "scrape", "kill", "close"]), WHO),
    ),
    max_size=40,
)


@settings(max_examples=60, deadline=None)
@given(steps=STEPS)
def test_totals_are_the_sum_of_all_flushed_counts_however_workers_come_and_go(tmp_path_factory, steps):
    path = tmp_path_factory.mktemp("property") / "totals"
    workers = [Worker(path) for _ in range(3)]
    flushed: dict[bytes, int] = {}
    waiting: list[dict[bytes, int]] = [{} for _ in workers]

    def settle(who: int) -> None:
        for key, number in waiting[who].items():
            flushed[key] = flushed.get(key, 0) + number
        waiting[who] = {}

    for step, who, *what in steps:
        match step:
            case "add":
                key, number = what
                workers[who].add(key, number)
                waiting[who][key] = waiting[who].get(key, 0) + number
            case "flush":
                workers[who].shared.flush()
                settle(who)
            case "scrape":
                settle(who)
                totals = workers[who].shared.totals()
                assert totals == {key: ("counter", [number]) for key, number in flushed.items()}
            case "kill":
                workers[who].die()
                workers[who], waiting[who] = Worker(path), {}
            case "close":
                workers[who].shared.close()
                settle(who)
                workers[who] = Worker(path)
    for each in workers:
        each.die()
