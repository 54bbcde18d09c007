"""The line of progress: at a terminal, in a log, and where nothing can be written."""

import io

import pytest

from upshift.cli import progress
from upshift.cli.progress import ProgressLine


class Stream(io.StringIO):
    def __init__(self, *, is_terminal):
        super().__init__()
        self._is_terminal = is_terminal

    def isatty(self):
        return self._is_terminal


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands until it is moved."""

    class Clock:
        now = 100.0

        def monotonic(self):
            return self.now

    monkeypatch.setattr(progress, "time", clock := Clock())
    return clock


def test_at_a_terminal_each_line_takes_the_place_of_the_one_before_and_the_last_is_taken_away():
    stream = Stream(is_terminal=True)
    with ProgressLine(stream) as line:
        line.show("one")
        line.show("two")

    assert stream.getvalue() == "\r\x1b[Kone\r\x1b[Ktwo\r\x1b[K"


def test_elsewhere_a_line_comes_now_and_then(clock):
    stream = Stream(is_terminal=False)
    line = ProgressLine(stream)
    for second in range(25):
        clock.now = 100.0 + second
        line.show(f"{second} s")

    assert stream.getvalue() == "10 s\n20 s\n"


def test_elsewhere_what_is_done_soon_is_not_told(clock):
    stream = Stream(is_terminal=False)
    with ProgressLine(stream) as line:
        line.show("one")

    assert stream.getvalue() == ""


def test_what_was_printed_meanwhile_counts_as_a_line(clock):
    stream = Stream(is_terminal=False)
    line = ProgressLine(stream)
    clock.now += 9
    line.clear()
    clock.now += 9
    line.show("one")

    assert stream.getvalue() == ""


def test_a_line_fits_and_cannot_move_the_cursor():
    stream = Stream(is_terminal=True)
    ProgressLine(stream).show("GET /a\x1b[2J\n" + "x" * 1_000)

    shown = stream.getvalue().removeprefix("\r\x1b[K")
    assert shown.startswith("GET /a [2J xxx")
    assert len(shown) < 80


@pytest.mark.parametrize("error", [BrokenPipeError, ValueError])
def test_a_stream_that_cannot_be_written_to_stops_nothing(error):
    class Broken(Stream):
        def write(self, text):
            raise error

    with ProgressLine(Broken(is_terminal=True)) as line:
        line.show("one")
