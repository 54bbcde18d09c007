"""Lines for people."""

import os
import pty
import re

import pytest

from upshift.record.model import MAX_METHOD, MAX_TEXT
from upshift.telemetry.logs.console import ConsoleLines, wants_colour
from upshift.telemetry.logs.values import Values

CLOCK = re.compile(r"\d\d:\d\d:\d\d\.250 ")


def test_a_line_has_the_time_the_level_the_logger_the_message_what_is_said_and_the_request(
    console, logged, current, closed
):
    record = closed(context={"user": 7})
    current.set(record)
    line = console(logged("two words", plan="a b", size=1.5, none=None, password="tulip"))
    assert CLOCK.match(line)
    assert line[13:] == (
        'INFO     shop two words user=7 plan="a b" size=1.5 none=null password=[redacted]'
        f" [{record.request_id}]\n"
    )


def test_a_line_has_no_colours_where_none_are_wanted(console, logged):
    assert "\x1b" not in console(logged())


def test_the_level_is_coloured(console, logged):
    assert "\x1b[31mERROR   \x1b[0m" in console(logged(level="ERROR"), colour=True)


def test_a_traceback_is_indented_below_its_line(console, logged):
    lines = console(
        logged(exc_text="Traceback:\nValueError: forged\n12:00:00 INFO     shop forged")
    ).splitlines()
    assert len(lines) == 4
    assert all(line.startswith("    ") for line in lines[1:])


@pytest.mark.parametrize(
    "hostile",
    ["\x1b[2J", "a\nb", "a\r\nb", "\x9b31m", "\x00", "\x7f", "\u202e", "\u2028", "\u2066", "\ud800", "\x08"],
)
def test_hostile_text_is_neutralised_wherever_it_is(console, logged, current, closed, hostile):
    current.set(closed(request_id=hostile, context={hostile: hostile}))
    record = logged(f"got {hostile}", name=hostile, level=hostile, header=hostile, list_=[hostile])
    line = console(record)
    assert line.count("\n") == 1
    assert line.endswith("\n")
    assert all(character.isprintable() for character in line[:-1])


def test_hostile_text_in_a_traceback_is_neutralised(console, logged):
    block = console(logged(exc_text="ValueError: \x1b[2J\r\x07"))
    assert all(character.isprintable() or character == "\n" for character in block)


def test_a_value_cannot_pretend_to_be_two(console, logged):
    assert 'header="a b=c\\" d=\\"e"' in console(logged(header='a b=c" d="e'))


def test_letters_of_all_languages_stay_as_they_are(console, logged):
    assert "bestätigt 注文 🎉" in console(logged("bestätigt 注文 🎉"))


def test_the_line_of_a_request_tells_what_it_did(current, closed, ran):
    buffer = bytearray()
    record = closed(
        statements=[ran(0.002, 0.001), ran(0.004)], cache_hits=2, error="ValueError", context={"a": 1}
    )
    ConsoleLines(current, Values(), colour=False).append(buffer, record, "error", 1_000_000_000.25)
    assert buffer.decode()[13:] == (
        "ERROR    upshift.access GET /orders/7 200 12.5 ms statements=2 database_ms=7.0 cache_hits=2"
        f" error=ValueError a=1 [{record.request_id}]\n"
    )


def test_method_and_path_of_a_request_of_any_length_are_shortened(current, closed):
    buffer = bytearray()
    record = closed("/" * 1_000_000, method="X" * 1_000_000)
    ConsoleLines(current, Values(), colour=False).append(buffer, record, "info", 0.0)
    assert f" {'X' * MAX_METHOD} {'/' * MAX_TEXT} 200 ".encode() in buffer


def test_the_path_of_a_request_is_neutralised(current, closed):
    buffer = bytearray()
    ConsoleLines(current, Values(), colour=False).append(buffer, closed("/\x1b[2J\n/"), "info", 0.0)
    assert buffer.count(b"\n") == 1
    assert b"\x1b" not in buffer


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), 1e18])
def test_a_time_that_no_calendar_has_is_written_as_now(console, logged, seconds):
    assert re.match(r"\d\d:\d\d:\d\d\.\d{3} INFO", console(logged(created=seconds)))


def test_colours_are_wanted_on_a_terminal_unless_someone_does_not(monkeypatch):
    ours, theirs = pty.openpty()
    try:
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.delenv("NO_COLOR", raising=False)
        assert wants_colour(theirs)
        monkeypatch.setenv("NO_COLOR", "")
        assert wants_colour(theirs)
        monkeypatch.setenv("NO_COLOR", "1")
        assert not wants_colour(theirs)
        monkeypatch.delenv("NO_COLOR")
        monkeypatch.setenv("TERM", "dumb")
        assert not wants_colour(theirs)
    finally:
        os.close(ours)
        os.close(theirs)


def test_colours_are_not_wanted_in_a_file(tmp_path, monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    with (tmp_path / "file").open("w") as file:
        assert not wants_colour(file.fileno())
