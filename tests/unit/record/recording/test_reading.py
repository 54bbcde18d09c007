"""Reading files that are recordings in part, or not at all."""

from __future__ import annotations

import json
import random

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from upshift.errors import RecordingError
from upshift.record import Record
from upshift.record.recording import Recording
from upshift.record.recording import reading as module


@pytest.fixture
def lines(write, record, statement, path):
    """The lines of a good recording of three records."""
    write(*[record(statement(f"SELECT {number}"), path=f"/{number}") for number in range(3)])
    return path.read_bytes().splitlines(keepends=True)


def paths(recording):
    return [each.path for each in recording]


def test_a_recording_can_be_read_twice(lines, path):
    recording = Recording(path)
    assert paths(recording) == paths(recording) == ["/0", "/1", "/2"]
    assert recording.records == 3


def test_a_torn_last_line_is_told_and_costs_no_other(lines, path):
    path.write_bytes(b"".join(lines[:3]) + lines[3][:40])
    recording = Recording(path)
    assert paths(recording) == ["/0", "/1"]
    assert recording.is_torn
    assert "torn" in recording.remarks()[0]


@pytest.mark.parametrize(
    "damage",
    [b"\n", b"{}\n", b"\x00\xff\n", b'{"kind":"record"}\n', b"[" * 100_000 + b"\n", b'{"kind":"other"}\n'],
)
def test_a_damaged_line_is_left_out_and_counted(lines, path, damage):
    path.write_bytes(b"".join([*lines[:2], damage, *lines[2:]]))
    recording = Recording(path)
    assert paths(recording) == ["/0", "/1", "/2"]
    assert recording.unreadable == 1
    assert recording.remarks() == ("1 of its lines could not be read",)


def test_a_lost_line_takes_with_it_only_those_that_need_what_it_defined(write, record, statement, path):
    write(
        record(statement("SELECT 1")), record(statement("SELECT 1"), path="/needs"), record(path="/does not")
    )
    kept = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([kept[0], *kept[2:]]))
    recording = Recording(path)
    assert paths(recording) == ["/does not"]
    assert recording.unreadable == 1


def test_a_line_that_is_too_long_is_passed_over(lines, path, monkeypatch):
    monkeypatch.setattr(module, "MAX_LINE", 2_000)
    path.write_bytes(b"".join([*lines[:2], b"x" * 10_000 + b"\n", *lines[2:]]))
    recording = Recording(path)
    assert paths(recording) == ["/0", "/1", "/2"]
    assert recording.unreadable == 1


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"{}", b"\x7fELF" + b"\0" * 100, b'{"kind":"header"}\n', b"x" * 10**6]
)
def test_a_file_that_is_no_recording_is_refused(path, content):
    path.write_bytes(content)
    with pytest.raises(RecordingError, match="no recording"):
        Recording(path)


def test_what_cannot_be_opened_is_told_in_words(tmp_path):
    with pytest.raises(RecordingError, match="No such file"):
        Recording(tmp_path / "nowhere")
    with pytest.raises(RecordingError, match="directory"):
        Recording(tmp_path)


def test_a_later_format_is_told_with_the_version_that_wrote_it(lines, path):
    header = json.loads(lines[0]) | {"format": 2, "upshift": "9.0", "what is new": True}
    path.write_bytes(msgspec.json.encode(header) + b"\n")
    with pytest.raises(RecordingError, match=r"Upshift 9\.0 in format 2"):
        Recording(path)


def test_fields_that_a_later_version_has_added_are_passed_over(lines, path):
    with_more = [msgspec.json.encode(json.loads(line) | {"new": [1]}) + b"\n" for line in lines]
    path.write_bytes(b"".join(with_more))
    assert paths(Recording(path)) == ["/0", "/1", "/2"]


def test_what_the_lines_define_is_bounded(write, record, statement, path, monkeypatch):
    from upshift.record.recording import decoding

    monkeypatch.setattr(decoding, "MAX_CHARACTERS", 1_000)
    write(*[record(statement(f"SELECT {number} {'x' * 300}")) for number in range(5)])
    recording = Recording(path)
    assert len(list(recording)) == 3
    assert recording.unreadable == 2


def test_how_far_classes_inherit_is_bounded(lines, path):
    classes = {"0": {"name": "A"}} | {str(n): {"name": "A", "base": n - 1} for n in range(1, 12_000)}
    hostile = {"kind": "record", "method": "GET", "path": "/", "started": 0.0, "status": 200, "seconds": 0.1}
    path.write_bytes(
        lines[0] + msgspec.json.encode(hostile | {"classes": classes}) + b"\n" + b"".join(lines[1:])
    )
    recording = Recording(path)
    assert paths(recording) == ["/0", "/1", "/2"]
    assert recording.unreadable == 1


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 8))
def test_whatever_happened_to_a_file_it_is_read_or_refused(lines, path, seed, count):
    generator = random.Random(seed)
    content = bytearray(b"".join(lines))
    for _ in range(count):
        place = generator.randrange(len(content))
        match generator.randrange(3):
            case 0:
                content[place] = generator.randrange(256)
            case 1:
                del content[place : place + generator.randrange(1, 50)]
            case 2:
                content[place:place] = content[: generator.randrange(1, 80)]
    path.write_bytes(content)
    try:
        recording = Recording(path)
    except RecordingError:
        return
    for each in recording:
        assert isinstance(each, Record)
    assert all(each.isprintable() for each in recording.remarks() if not recording.notices)
