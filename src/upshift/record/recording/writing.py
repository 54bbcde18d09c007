"""Writes closed records into a file, as fast as it can and never on a request's way.

Records come as they are handed on from the backlog, some dozens at a time. Here they become lines, which a
thread writes. Whatever does not fit is dropped and counted: lines beyond what may wait for the disk, records
beyond so many in a second, and all that would make the file too large.
"""

from __future__ import annotations

import atexit
import logging
import os
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from time import monotonic, perf_counter
from typing import TYPE_CHECKING, Any

import msgspec

from upshift.errors import RecordingError
from upshift.record.fork import after_fork
from upshift.record.recording.encoding import Encoder
from upshift.record.recording.file import RecordingSink
from upshift.record.recording.frames import FORMAT, MAX_LINE, Dialect, End, Header, Notice
from upshift.record.writer import Writer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Self

    from upshift.record.model import Record

MAX_BYTES = 256 * 1024 * 1024
"""The size of a recording at most, where nothing else is said."""

RECORDS_PER_SECOND = 1_000
"""Records written of a second at most, likewise."""

CLOSE_SECONDS = 5.0
"""How long lines may take to be written when a recording is closed."""

_PID = "{pid}"
_END = 256
"""Bytes left for the last line, whatever else there is room for."""

logger = logging.getLogger("upshift.record")


class RecordingWriter:
    """A recording that is under way; leaving its `with` block, or `close`, ends it.

    Args:
        path: the file. It must not exist; `{pid}` in its name stands for the process, and makes each process
            that has records make a file of its own.
        dialects: the databases whose statements are recorded.
        keep_parameters: whether statements have their parameters.
        service: the application's name.
        settings: the settings by which findings are made.
        max_bytes: the size of the file at most.
        records_per_second: how many records are written of a second at most.

    Attributes:
        path: the file; until the first record of a process came, the path that was given where it has a
            `{pid}`.
        records: records handed on to be written.
        dropped: records that were not written.
        faults: how often something could not be written; the first is logged.
        on_close: called before it is closed, when it still takes records.

    Raises:
        RecordingError: the file exists or cannot be made, or is to be smaller than its own first line.
    """

    def __init__(  # noqa: PLR0913 - what a recording tells of itself, all by name
        self,
        path: str | Path,
        *,
        dialects: Iterable[Dialect] = (),
        keep_parameters: bool = False,
        service: str = "app",
        settings: Mapping[str, Any] | None = None,
        max_bytes: int = MAX_BYTES,
        records_per_second: int = RECORDS_PER_SECOND,
    ) -> None:
        self._pattern = str(path)
        self._dialects = tuple(dialects)
        self._keep_parameters = keep_parameters
        self._service = service
        self._settings = dict(settings or {})
        self._max_bytes = max_bytes
        self._rate = records_per_second
        self.on_close: Callable[[RecordingWriter], None] = lambda _: None
        self._begin()
        if _PID in self._pattern:
            if not self.path.parent.is_dir():
                raise RecordingError(f"{self.path.parent} is no folder, so no recording can be made there")
        else:
            self._open()
        after_fork(self._forget)
        atexit.register(self.close)

    def _begin(self) -> None:
        self._is_closed = False
        self.path = Path(self._pattern)
        self.records = 0
        self._dropped = 0
        self._faults = 0
        self._is_said_full = False
        self._second = 0
        self._left = 0
        self._sink: RecordingSink | None = None
        self._writer: Writer | None = None
        self._encoder: Encoder | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def dropped(self) -> int:
        """Records that were not written."""
        return self._dropped + (self._writer.dropped if self._writer else 0) + self._left_out()

    @property
    def faults(self) -> int:
        """How often something could not be written."""
        return self._faults + (self._writer.faults if self._writer else 0)

    def take(self, record: Record) -> None:
        """Have a closed record written soon; nothing happens once the recording is closed, or is full."""
        if self._is_closed or not self._admit():
            return
        if self._sink is None and not self._is_open():
            self._dropped += 1
            return
        sink, writer, encoder = self._sink, self._writer, self._encoder
        if sink is None or writer is None or encoder is None or sink.is_full:
            self._dropped += 1
            self._say_full()
            return
        line = encoder.encode(record)
        before = writer.dropped
        if len(line) <= MAX_LINE:
            writer.write(line)
        else:
            self._dropped += 1
        if len(line) > MAX_LINE or writer.dropped != before:
            encoder.forget()  # what that line defined
        else:
            self.records += 1

    def flush(self, deadline_seconds: float = CLOSE_SECONDS) -> bool:
        """Wait until all records taken so far are written; False where that takes too long."""
        return self._writer is None or self._writer.flush(deadline_seconds)

    def close(self) -> None:
        """Write the last line, and end. Calling it twice does nothing more."""
        if self._is_closed:
            return
        self.on_close(self)  # hands on what was closed before this, so it comes first
        self._is_closed = True
        atexit.unregister(self.close)
        if self._writer is not None and self._sink is not None:
            self._writer.flush(CLOSE_SECONDS)
            self._sink.make_room(_END)
            self._writer.write(msgspec.json.encode(End(self.records, self.dropped)) + b"\n")
            self._writer.close(CLOSE_SECONDS)
        if self.dropped:
            logger.warning("%s lacks %d records, for want of time or room", self.path, self.dropped)

    def _forget(self) -> None:
        """In a forked child: what was recorded is the parent's; with a `{pid}` the child has its own."""
        is_over = self._is_closed or _PID not in self._pattern
        self._begin()
        self._is_closed = is_over

    def _admit(self) -> bool:
        second = int(monotonic())
        if second != self._second:
            self._second, self._left = second, self._rate
        self._left -= 1
        if self._left < 0:
            self._dropped += 1
        return self._left >= 0

    def _say_full(self) -> None:
        if not self._is_said_full:
            self._is_said_full = True
            logger.warning("%s is as large as it may become; further records are only counted", self.path)

    def _is_open(self) -> bool:
        """Open the file of this process, unless that has failed before."""
        if self._faults:
            return False
        try:
            self._open()
        except RecordingError:
            self._faults += 1
            logger.exception("nothing is recorded in this process")
            return False
        return True

    def _open(self) -> None:
        self.path = Path(self._pattern.replace(_PID, str(os.getpid()))).absolute()
        header = Header(
            format=FORMAT,
            upshift=_version(),
            service=self._service,
            pid=os.getpid(),
            started=datetime.now(UTC).isoformat(),
            clock=perf_counter(),
            dialects=self._dialects,
            keep_parameters=self._keep_parameters,
            settings=self._settings,
        )
        first_line = msgspec.json.encode(header) + b"\n"
        room = self._max_bytes - _END
        if len(first_line) > room:
            raise RecordingError(
                f"a recording of {self._max_bytes:,} bytes has no room for records: its first and last lines"
                f" take {len(first_line) + _END:,}; give it a larger max_bytes"
            )
        self._sink = RecordingSink(self.path, room)
        self._encoder = Encoder(_folder(), keep_parameters=self._keep_parameters)
        self._writer = Writer(self._sink, _notice, _log, "records")
        self._writer.write(first_line)

    def _left_out(self) -> int:
        return self._sink.left_out if self._sink else 0


def _notice(text: str) -> bytes:
    return msgspec.json.encode(Notice(text)) + b"\n"


def _log(line: bytes) -> None:
    logger.error("%s", msgspec.json.decode(line, type=Notice).text)


def _folder() -> str:
    try:
        return str(Path.cwd())
    except OSError:  # it was removed
        return ""


def _version() -> str:
    try:
        return version("upshift")
    except PackageNotFoundError:  # it runs from a checkout that is not installed
        return ""
