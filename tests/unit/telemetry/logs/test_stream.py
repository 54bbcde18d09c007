"""Standard error, with readers that hang and go."""

import os
import select
import subprocess
import sys
from contextlib import suppress

import pytest

from upshift.telemetry.logs import stream as module
from upshift.telemetry.logs.stream import StreamSink


@pytest.fixture
def pipe():
    reader, writer = os.pipe()
    yield reader, writer
    for file in (reader, writer):
        with suppress(OSError):
            os.close(file)


def write_all(sink, data):
    start = 0
    while start < len(data):
        start = sink.write(data, start)


def test_lines_are_written_whole_and_a_few_at_a_time(pipe):
    reader, writer = pipe
    data = b"".join(b"%d %s\n" % (number, b"x" * 1_000) for number in range(8))
    start = StreamSink(writer).write(data, 0)
    assert data[:start] == os.read(reader, 100_000)
    assert 0 < start <= select.PIPE_BUF
    assert data[start - 1 : start] == b"\n"


def test_a_line_longer_than_what_is_written_at_once_is_written_in_pieces(pipe):
    reader, writer = pipe
    data = b"x" * 3 * select.PIPE_BUF + b"\nshort\n"
    write_all(StreamSink(writer), data)
    assert os.read(reader, 100_000) == data


def test_a_reader_that_hangs_is_a_fault(pipe, monkeypatch):
    monkeypatch.setattr(module, "PATIENCE_SECONDS", 0.02)
    sink = StreamSink(pipe[1])
    with pytest.raises(TimeoutError, match="nobody has read"):
        write_all(sink, b"x" * 10_000_000)


def test_a_pipe_that_does_not_block_is_waited_for(pipe, monkeypatch):
    monkeypatch.setattr(module, "PATIENCE_SECONDS", 0.02)
    os.set_blocking(pipe[1], False)
    with pytest.raises(TimeoutError):
        write_all(StreamSink(pipe[1]), b"x" * 10_000_000)


def test_a_reader_that_has_gone_is_a_fault(pipe):
    reader, writer = pipe
    os.close(reader)
    with pytest.raises(BrokenPipeError):
        StreamSink(writer).write(b"to nobody\n", 0)


def test_a_file_is_written_to_as_well(tmp_path):
    with (tmp_path / "file").open("wb") as file:
        write_all(StreamSink(file.fileno()), b"line\n" * 10_000)
    assert (tmp_path / "file").read_bytes() == b"line\n" * 10_000


SAY = (
    "from upshift.telemetry.logs.stream import say, standard_error; say(b'x' * 4096); print(standard_error())"
)


def test_a_fault_is_not_told_to_who_does_not_listen(pipe):
    _, writer = pipe
    os.set_blocking(writer, False)
    with suppress(BlockingIOError):
        while True:
            os.write(writer, b"x" * 4_096)
    os.set_blocking(writer, True)
    done = subprocess.run(
        [sys.executable, "-c", SAY], stdout=subprocess.PIPE, stderr=writer, timeout=30, check=True
    )
    assert done.stdout == b"2\n"


def test_a_process_without_standard_error_has_nobody_to_tell():
    script = f"import os, sys; os.close(2); os.execv(sys.executable, [sys.executable, '-c', {SAY!r}])"
    done = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, timeout=30, check=True)
    assert done.stdout == b"None\n"
