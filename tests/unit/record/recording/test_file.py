"""The file of a recording: its size, and whole lines only."""

from __future__ import annotations

from upshift.record.recording.file import RecordingSink


def test_once_a_line_was_left_out_shorter_ones_are_too_as_they_may_refer_to_it(path):
    sink = RecordingSink(path, 100)
    assert sink.write(b"first\n", 0) == 6
    assert sink.write(b"x" * 200 + b"\n", 0) == 201
    assert sink.write(b"short\n", 0) == 6
    sink.make_room(10)
    sink.write(b"the end\n", 0)
    sink.close()

    assert path.read_bytes() == b"first\nthe end\n"
    assert (sink.is_full, sink.left_out) == (True, 2)
