"""The thread that writes, with sinks that fail, hang and mend."""

import errno
import gc
import os
import signal
import threading
import time
import warnings
import weakref
from contextlib import suppress

import pytest

from upshift.record import writer as module
from upshift.record.writer import Writer


class Memory:
    """A sink that keeps what it is given, a few bytes at a time, unless it is told to fail or to wait."""

    def __init__(self, piece=1_000_000):
        self.written = b""
        self.fault = None
        self.open = threading.Event()
        self.open.set()
        self.closed = False
        self._piece = piece

    def write(self, data, start):
        self.open.wait(10)
        if self.fault is not None:
            raise self.fault
        end = min(len(data), start + self._piece)
        self.written += data[start:end]
        return end

    def after_fork(self):
        self.written = b""

    def close(self):
        self.closed = True


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.02)


@pytest.fixture
def writer():
    writers = []

    def make(sink, say=None):
        writers.append(Writer(sink, lambda message: message.encode() + b"\n", say))
        return writers[-1]

    yield make
    for each in writers:
        each._sink.fault = None
        each._sink.open.set()
        each.close(5)


def eventually(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_lines_are_written_in_their_order(writer):
    sink = Memory()
    ours = writer(sink)
    for number in range(1_000):
        ours.write(b"%d\n" % number)
    assert ours.flush(5)
    assert sink.written == b"".join(b"%d\n" % number for number in range(1_000))


def test_lines_are_written_without_a_flush(writer):
    sink = Memory()
    writer(sink).write(b"soon\n")
    eventually(lambda: sink.written == b"soon\n")


def test_a_sink_may_take_them_in_pieces(writer):
    sink = Memory(piece=3)
    ours = writer(sink)
    ours.write(b"0123456789\n")
    ours.write(b"abc\n")
    assert ours.flush(5)
    assert sink.written == b"0123456789\nabc\n"


def test_there_is_no_thread_before_the_first_line(writer):
    before = threading.active_count()
    ours = writer(Memory())
    assert ours.flush(5)
    assert threading.active_count() == before


def test_lines_of_many_threads_are_all_written(writer):
    sink = Memory()
    ours = writer(sink)

    def write(name):
        for number in range(500):
            ours.write(b"%d %d\n" % (name, number))

    threads = [threading.Thread(target=write, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ours.flush(5)
    lines = sink.written.splitlines()
    assert sorted(lines) == sorted(b"%d %d" % (name, number) for name in range(8) for number in range(500))
    assert ours._size == 0


def test_a_fault_is_counted_told_once_and_costs_no_line(writer):
    sink, told = Memory(), []
    sink.fault = OSError(errno.ENOSPC, "No space left on device")
    ours = writer(sink, told.append)
    ours.write(b"1\n")
    eventually(lambda: ours.faults >= 3)
    ours.write(b"2\n")
    sink.fault = None
    assert ours.flush(5)
    assert sink.written == b"1\n2\n"
    assert ours.dropped == 0
    assert len(told) == 1
    assert b"No space left on device" in told[0]


def test_a_fault_of_any_kind_does_not_end_the_thread(writer):
    sink = Memory()
    sink.fault = ValueError("odd")
    ours = writer(sink)
    ours.write(b"1\n")
    eventually(lambda: ours.faults)
    sink.fault = None
    assert ours.flush(5)
    assert sink.written == b"1\n"


def test_flush_tries_at_once_though_there_was_a_fault(writer, monkeypatch):
    monkeypatch.setattr(module, "RETRY_SECONDS", 60.0)
    sink = Memory()
    sink.fault = OSError()
    ours = writer(sink)
    ours.write(b"1\n")
    eventually(lambda: ours.faults)
    sink.fault = None
    assert ours.flush(5)


def test_what_waits_is_bounded_and_what_was_dropped_is_counted_and_told(writer, monkeypatch):
    monkeypatch.setattr(module, "MAX_WAITING_BYTES", 1_000)
    sink = Memory()
    sink.open.clear()
    ours = writer(sink)
    for _ in range(150):
        ours.write(b"123456789\n")
        assert ours._size <= 1_000
    assert ours.dropped == 50
    assert not ours.flush(0.01)
    sink.open.set()
    eventually(lambda: sink.written.endswith(b"were dropped, as they could not be written in time\n"))
    assert sink.written.startswith(b"123456789\n" * 100 + b"50 log lines were dropped")


def test_a_piece_of_several_lines_is_dropped_line_by_line(writer, monkeypatch):
    monkeypatch.setattr(module, "MAX_WAITING_BYTES", 10)
    ours = writer(Memory())
    ours.write(b"1\n2\n3\n" * 10)
    assert ours.dropped == 30


def test_what_was_dropped_once_is_told_once(writer, monkeypatch):
    monkeypatch.setattr(module, "MAX_WAITING_BYTES", 10)
    sink = Memory()
    ours = writer(sink)
    ours.write(b"far too long a line\n")
    for _ in range(3):
        ours.write(b"x\n")
        assert ours.flush(5)
    eventually(lambda: b"1 log lines were dropped" in sink.written)
    assert sink.written.count(b"dropped") == 1


def test_nobody_waits_for_a_sink_that_hangs(writer):
    sink = Memory()
    sink.open.clear()
    ours = writer(sink)
    ours.write(b"1\n")
    started = time.perf_counter()
    for _ in range(1_000):
        ours.write(b"2\n")
    assert time.perf_counter() - started < 5
    assert not ours.flush(0.01)


def test_close_writes_what_waits_and_lets_go(writer):
    sink = Memory()
    ours = writer(sink)
    ours.write(b"1\n")
    assert ours.close(5)
    assert sink.written == b"1\n"
    assert sink.closed
    assert not ours._thread.is_alive()


def test_close_with_a_fault_counts_what_is_lost(writer):
    sink = Memory()
    sink.fault = OSError()
    ours = writer(sink)
    ours.write(b"1\n2\n")
    assert not ours.close(0.05)
    eventually(lambda: not ours._thread.is_alive())
    assert ours.dropped == 2


def test_lines_after_close_are_dropped(writer):
    sink = Memory()
    ours = writer(sink)
    ours.close(1)
    ours.close(1)
    ours.write(b"1\n")
    assert ours.dropped == 1


def test_lines_are_written_by_whoever_flushes_where_there_is_no_thread(writer, monkeypatch):
    def refuse(thread):
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    sink = Memory()
    ours = writer(sink)
    ours.write(b"1\n")
    ours.write(b"2\n")
    assert ours.flush(5)
    assert sink.written == b"1\n2\n"


def test_a_signal_handler_may_log_while_its_thread_logs(writer):
    sink = Memory()
    ours = writer(sink)
    before = signal.signal(signal.SIGALRM, lambda *_: ours.write(b"signal\n"))
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    try:
        for _ in range(20_000):
            ours.write(b"line\n")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert ours.flush(5)
    assert sink.written.count(b"line\n") == 20_000
    assert sink.written.count(b"signal\n") > 0


def test_a_signal_handler_that_logs_while_the_thread_starts_starts_no_other(writer, monkeypatch):
    ours = writer(Memory())
    start, started = threading.Thread.start, []

    def interrupted(thread):
        started.append(thread)
        if len(started) < 3:
            ours.write(b"signal\n")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    ours.write(b"line\n")
    assert ours.flush(5)
    assert len(started) == 1


def in_child(work):
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


def test_a_forked_child_writes_its_own_lines_and_not_its_parents(writer):
    sink = Memory()
    sink.open.clear()
    ours = writer(sink)
    ours.write(b"parent\n")

    def child():
        sink.open.set()
        ours.write(b"child\n")
        assert ours.flush(5)
        assert sink.written == b"child\n"

    in_child(child)
    sink.open.set()
    assert ours.flush(5)
    assert sink.written == b"parent\n"


def test_a_child_forked_while_another_thread_logs_can_log(writer):
    sink = Memory()
    ours = writer(sink)
    stop = threading.Event()

    def write():
        while not stop.is_set():
            ours.write(b"parent\n")

    def child():
        ours.write(b"child\n")
        assert ours.flush(5)
        assert sink.written == b"child\n"

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for _ in range(20):
            in_child(child)
    finally:
        stop.set()
        thread.join()


def test_a_writer_that_is_forgotten_without_a_line_is_not_kept():
    ours = Writer(Memory(), str.encode)
    reference = weakref.ref(ours)
    del ours
    gc.collect()
    assert reference() is None
