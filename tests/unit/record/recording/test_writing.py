"""Writing recordings: bounds, disks that are full, processes that fork or are killed."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from upshift.errors import RecordingError
from upshift.record.recording import Recording, Recordings, RecordingWriter
from upshift.record.recording import writing as module

IMPORTS = """
import os, sys
from upshift.record import Record
from upshift.record.recording import RecordingWriter
"""
KILLED = """
import sys, time
from upshift.record import Record
from upshift.record.recording import RecordingWriter
writer = RecordingWriter(sys.argv[1], records_per_second=10**9)
number = 0
while True:
    time.sleep(0.0005)  # a disk keeps up with that
    record = Record("GET", "/" + "x" * 1_000, float(number))
    number += 1
    writer.take(record)
    if number == 200:
        print("ready", flush=True)
"""
FULL = """
import logging, resource, sys
from upshift.record import Record
from upshift.record import writer as writing
from upshift.record.recording import RecordingWriter
writing.RETRY_SECONDS = 0.01
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
logging.basicConfig(format="%(message)s")
writer = RecordingWriter(sys.argv[1])
def take(numbers):
    for number in numbers:
        writer.take(Record("GET", "/" + "x" * 1_000, float(number)))
    return writer.flush(0.5)
print(take(range(50)), writer.faults > 0)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print(take(range(50, 60)))
writer.close()
"""


def run(code, *arguments):
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )


def test_a_recording_tells_what_it_was_made_by(write):
    header = write(service="shop", settings={"environment": "production"}, keep_parameters=True).header
    assert (header.service, header.pid, header.keep_parameters) == ("shop", os.getpid(), True)
    assert header.settings == {"environment": "production"}
    assert header.started.endswith("+00:00")


def test_records_are_written_in_their_order_and_the_end_tells_how_many(write, record):
    recording = write(*[record(started=float(number)) for number in range(500)])
    assert [each.started for each in recording] == [float(number) for number in range(500)]
    assert (recording.end.records, recording.end.dropped) == (500, 0)
    assert recording.remarks() == ()


def test_every_line_is_json(write, record, statement, path):
    write(record(statement()), record())
    kinds = [json.loads(line)["kind"] for line in path.read_bytes().splitlines()]
    assert kinds == ["header", "record", "record", "end"]


def test_the_file_is_its_owners_alone(write, path):
    write()
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_what_exists_is_never_written_to(path, tmp_path, kind):
    match kind:
        case "file":
            path.write_text("precious")
        case "folder":
            path.mkdir()
        case "link":
            path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RecordingError, match="exists"):
        RecordingWriter(path)
    assert kind != "file" or path.read_text() == "precious"
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("name", ["nowhere/shop.recording", "nowhere/shop-{pid}.recording"])
def test_a_folder_that_is_not_there_is_told_at_once(tmp_path, name):
    with pytest.raises(RecordingError, match="nowhere"):
        RecordingWriter(tmp_path / name)


def test_what_comes_after_the_end_is_not_written(path, record):
    writer = RecordingWriter(path)
    writer.close()
    writer.take(record())
    writer.close()
    assert list(Recording(path)) == []


def test_a_file_grows_no_larger_than_was_said(path, record, statement, caplog):
    with caplog.at_level(logging.WARNING), RecordingWriter(path, max_bytes=20_000) as writer:
        for number in range(200):
            writer.take(record(statement(f"SELECT {number} {'x' * 500}")))
            writer.flush()
    assert path.stat().st_size <= 20_000
    recording = Recording(path)
    kept = len(list(recording))
    assert 10 < kept < 200
    assert recording.end.dropped == writer.dropped == 200 - kept
    assert "were not written" in recording.remarks()[0]
    assert len([each for each in caplog.records if "as large as" in each.message]) == 1


def test_a_file_without_room_for_its_first_line_is_refused_and_not_made(path):
    with pytest.raises(RecordingError, match="larger max_bytes"):
        RecordingWriter(path, max_bytes=300)
    assert not path.exists()


def test_a_burst_is_cut_to_so_many_records_a_second(path, record):
    with RecordingWriter(path, records_per_second=10) as writer:
        started = time.monotonic()
        for _ in range(1_000):
            writer.take(record())
        seconds = time.monotonic() - started
    kept = len(list(Recording(path)))
    assert 10 <= kept <= 10 * (seconds + 2)
    assert writer.dropped == 1_000 - kept


def test_what_the_disk_does_not_take_in_time_is_dropped_and_later_texts_are_told_again(
    path, record, statement, monkeypatch
):
    from upshift.record import writer as writing

    monkeypatch.setattr(writing, "MAX_WAITING_BYTES", 3_000)
    opened = threading.Event()
    with RecordingWriter(path, records_per_second=10_000) as writer:
        sink = writer._sink
        write = sink.write
        monkeypatch.setattr(sink, "write", lambda data, start: opened.wait(10) and write(data, start))
        for number in range(100):
            writer.take(record(statement(f"SELECT {number} {'x' * 200}")))
        opened.set()
        assert writer.flush()
        for number in range(90, 110):
            writer.take(record(statement(f"SELECT {number} {'x' * 200}")))
            writer.flush()
    recording = Recording(path)
    texts = [each.statements[0].sql for each in recording]
    assert recording.unreadable == 0
    assert [text.split()[1] for text in texts[-20:]] == [str(number) for number in range(90, 110)]
    assert recording.end.dropped == writer.dropped == 120 - len(texts) > 0
    assert "were dropped" in " ".join(recording.notices)


def test_a_full_disk_is_told_once_and_what_waited_is_written_when_there_is_room(path):
    done = run(FULL, path)
    assert done.stdout.split() == ["False", "True", "True"]
    assert done.stderr.count("cannot be written") == 1
    recording = Recording(path)
    assert [each.started for each in recording] == [float(number) for number in range(60)]
    assert (recording.unreadable, recording.is_torn) == (0, False)


def test_a_process_that_is_killed_leaves_whole_records_and_it_is_told(path):
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE)
    with process:
        process.stdout.readline()
        time.sleep(0.2)
        process.send_signal(signal.SIGKILL)
        process.wait(10)
    recording = Recording(path)
    starts = [each.started for each in recording]
    assert len(starts) >= 100
    assert starts == [float(number) for number in range(len(starts))]
    assert recording.unreadable == 0
    assert "killed" in recording.remarks()[-1]


def test_a_process_that_ends_without_a_word_has_written_everything(path):
    run(
        f"{IMPORTS}writer = RecordingWriter(sys.argv[1])\nwriter.take(Record('GET', '/', 1.0))",
        path,
    )
    recording = Recording(path)
    assert [each.started for each in recording] == [1.0]
    assert recording.end is not None


def test_each_process_has_a_file_of_its_own_where_the_name_says_so(tmp_path):
    run(
        f"{IMPORTS}"
        "writer = RecordingWriter(sys.argv[1] + '/{pid}.recording')\n"
        "writer.take(Record('GET', '/parent', 1.0))\n"
        "writer.flush()\n"
        "child = os.fork()\n"
        "writer.take(Record('GET', '/parent' if child else '/child', 1.0))\n"
        "writer.close()\n"
        "child and os.waitpid(child, 0)",
        tmp_path,
    )
    paths = sorted([each.path for each in Recording(file)] for file in tmp_path.iterdir())
    assert paths == [["/child"], ["/parent", "/parent"]]


def test_a_forked_child_writes_nothing_into_its_parents_file(path):
    run(
        f"{IMPORTS}"
        "writer = RecordingWriter(sys.argv[1])\n"
        "writer.take(Record('GET', '/parent', 1.0))\n"
        "child = os.fork()\n"
        "writer.take(Record('GET', '/parent' if child else '/child', 1.0))\n"
        "writer.close()\n"
        "child and os.waitpid(child, 0)",
        path,
    )
    assert [each.path for each in Recording(path)] == ["/parent", "/parent"]


def test_a_process_whose_file_cannot_be_made_goes_on_without(tmp_path, record, caplog):
    writer = RecordingWriter(tmp_path / "{pid}.recording")
    (tmp_path / f"{os.getpid()}.recording").write_text("precious")
    for _ in range(3):
        writer.take(record())
    writer.close()
    assert (writer.faults, writer.dropped) == (1, 3)
    assert len([each for each in caplog.records if each.levelno == logging.ERROR]) == 1


def test_two_recordings_at_once_know_nothing_of_each_other(tmp_path, record):
    changes = []
    recordings = Recordings(lambda: None, changes.append)
    one, other = (recordings.add(RecordingWriter(tmp_path / name)) for name in ("one", "other"))
    recordings.take(record(path="/both"))
    one.close()
    recordings.take(record(path="/second"))
    recordings.close()
    recordings.take(record(path="/nobody"))
    assert [each.path for each in Recording(one.path)] == ["/both"]
    assert [each.path for each in Recording(other.path)] == ["/both", "/second"]
    assert changes == [True, True, True, False]


def test_what_waits_when_a_recording_is_closed_is_in_it_and_what_waited_when_it_began_is_not(path, record):
    waiting = [record(path="/before")]
    recordings = Recordings(lambda: [recordings.take(waiting.pop()) for _ in tuple(waiting)], lambda _: None)
    recording = recordings.add(RecordingWriter(path))
    waiting.append(record(path="/during"))
    recording.close()
    assert [each.path for each in Recording(path)] == ["/during"]


def test_a_record_larger_than_a_line_may_be_is_dropped(path, record, monkeypatch):
    monkeypatch.setattr(module, "MAX_LINE", 1_000)
    with RecordingWriter(path) as writer:
        writer.take(record(path="/" + "x" * 1_500))
        writer.take(record())
    assert len(list(Recording(path))) == 1
    assert writer.dropped == 1
