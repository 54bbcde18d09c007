"""Which requests have a line, at which level, when, and in which piece."""

import logging
import sys
import time
from threading import Thread

import pytest

from upshift.record import Record
from upshift.telemetry.logs import AccessLog
from upshift.telemetry.logs import access as module


class Written:
    """An access log whose lines are level and path, and what it has handed on."""

    def __init__(self, **settings):
        self.pieces: list[bytes] = []
        self.errors: list[bytes] = []
        self.ended: list[float] = []
        self.log = AccessLog(self.append, self.pieces.append, self.errors.append, **settings)

    def append(self, buffer, record, level, ended):
        self.ended.append(ended)
        buffer += f"{level} {record.path}\n".encode()
        if record.path == "/broken":
            raise ValueError

    def take(self, path="/", status=200, seconds=0.01, error=None):
        record = Record("GET", path, time.perf_counter() - seconds)
        record.status, record.seconds, record.error = status, seconds, error
        self.log.take(record)
        return record

    def lines(self):
        self.log.flush()
        return b"".join(self.pieces).decode().splitlines()


@pytest.mark.parametrize(
    ("facts", "level"),
    [
        ({}, "info"),
        ({"status": 404}, "info"),
        ({"status": 499}, "info"),
        ({"seconds": 0.5}, "warning"),
        ({"status": 500}, "error"),
        ({"status": 503, "seconds": 9.0}, "error"),
        ({"error": "ValueError"}, "error"),
    ],
)
def test_the_level_tells_how_the_request_went(facts, level):
    written = Written(slow_request_seconds=0.5)
    written.take(**facts)
    assert written.lines() == [f"{level} /"]


def test_of_ordinary_requests_a_sample_has_lines_and_of_others_each():
    written = Written(slow_request_seconds=0.5, sample_rate=0.0)
    written.take("/ordinary")
    written.take("/slow", seconds=0.5)
    written.take("/failed", status=500)
    written.take("/raised", error="ValueError")
    assert written.lines() == ["warning /slow", "error /failed", "error /raised"]


def test_the_sample_is_as_large_as_was_asked_for():
    written = Written(sample_rate=0.25)
    for _ in range(4_000):
        written.take()
    assert 800 < len(written.lines()) < 1_200


@pytest.mark.parametrize(
    ("level", "lines"),
    [
        (logging.DEBUG, ["info /", "warning /", "error /"]),
        (logging.WARNING, ["warning /", "error /"]),
        (logging.ERROR, ["error /"]),
        (logging.CRITICAL, []),
    ],
)
def test_lines_below_the_level_are_not_written(level, lines):
    written = Written(level=level, slow_request_seconds=0.5)
    written.take()
    written.take(seconds=0.5)
    written.take(status=500)
    assert written.lines() == lines


def test_lines_are_handed_on_in_one_piece_when_the_batch_is_over():
    written = Written()
    written.take("/1")
    written.take("/2", status=500)
    assert written.pieces == []
    written.log.flush()
    written.log.flush()
    assert written.pieces == [b"info /1\nerror /2\n"]
    assert written.errors == [b"error /2\n"]


def test_lines_that_wait_are_bounded(monkeypatch):
    monkeypatch.setattr(module, "MAX_BUFFER_BYTES", 100)
    written = Written()
    for _ in range(100):
        written.take("/" + "x" * 50)
        assert len(written.log._lines) < 300
    assert len(written.lines()) == 100


def test_a_line_that_cannot_be_made_spoils_no_other():
    written = Written()
    written.take("/1")
    with pytest.raises(ValueError):  # noqa: PT011 - the backlog counts it
        written.take("/broken", status=500)
    written.take("/2")
    assert written.lines() == ["info /1", "info /2"]
    assert written.errors == []


def test_the_time_is_the_wall_clocks_when_the_request_ended():
    written = Written()
    record = Record("GET", "/", time.perf_counter() - 10.0)
    record.status, record.seconds = 200, 4.0
    written.log.take(record)
    assert written.ended[0] == pytest.approx(time.time() - 6.0, abs=1.0)


def test_a_clock_that_is_moved_moves_the_lines_of_the_next_batch(monkeypatch):
    written = Written()
    written.take()
    written.log.flush()
    real = time.time
    monkeypatch.setattr(module, "time", lambda: real() - 3_600)
    written.take()
    assert written.ended[1] == pytest.approx(written.ended[0] - 3_600, abs=1.0)


def test_within_a_batch_the_order_of_ends_is_that_of_times():
    written = Written()
    for _ in range(10):
        written.take(seconds=0.0)
    assert written.ended == sorted(written.ended)


def test_lines_are_whole_and_none_is_lost_whoever_takes_and_flushes(closed):
    written = []
    log = AccessLog(lambda buffer, *_: [buffer.append(letter) for letter in b"line\n"], written.append)

    def take():
        for _ in range(5_000):
            log.take(closed())

    def flush():
        for _ in range(5_000):
            log.flush()

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        threads = [Thread(target=work) for work in (take, take, flush)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    log.flush()
    assert b"".join(written) == b"line\n" * 10_000
