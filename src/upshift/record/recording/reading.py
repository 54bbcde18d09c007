"""Reads a recording, of which nothing is believed before it was looked at.

A process may be killed at any time, so the last line may be torn; what comes before it is whole. A line that
cannot be read is left out and counted, whatever is in it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from upshift.errors import RecordingError
from upshift.record.recording.decoding import Decoder
from upshift.record.recording.frames import FORMAT, MAX_LINE, End, Header, Line, Notice, RecordFrame

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

    from upshift.record.model import Record

MAX_NOTICES = 20
"""Notices of the writer that are kept."""

_MARK = b'{"kind":"header","format":'
_FAULTS = (msgspec.DecodeError, UnicodeDecodeError, ValueError, RecursionError)


class _Version(msgspec.Struct):
    """What the header of any version has."""

    format: int
    upshift: str = ""


class Recording:
    """A recording in a file. What it tells of itself is complete once its records have been read.

    Args:
        path: the file.

    Attributes:
        path: the file.
        header: its first line.
        records: the records read so far.
        unreadable: lines that could not be read.
        is_torn: whether the last line has no end: the process was killed, or is still writing.
        end: the last line; None where the recording was not closed in order.
        notices: what the writer had to say.

    Raises:
        RecordingError: there is no such file, it is no recording, or a later version wrote it.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.records = 0
        self.unreadable = 0
        self.is_torn = False
        self.end: End | None = None
        self.notices: list[str] = []
        with self._open() as file:
            self.header = self._header(file.readline(MAX_LINE))

    def __iter__(self) -> Iterator[Record]:
        """Yield the records in the order in which they were closed; each time from the beginning.

        Raises:
            RecordingError: the file cannot be read any more.
        """
        self.records = self.unreadable = 0
        self.is_torn, self.end, self.notices = False, None, []
        decoder = Decoder()
        for line in self._lines():
            try:
                frame = msgspec.json.decode(line, type=Line)
                record = decoder.decode(frame) if isinstance(frame, RecordFrame) else None
            except _FAULTS:
                self.unreadable += 1
                continue
            if record is not None:
                self.records += 1
                yield record
            elif isinstance(frame, End):
                self.end = frame
            elif isinstance(frame, Notice) and len(self.notices) < MAX_NOTICES:
                self.notices.append(frame.text)

    def remarks(self) -> tuple[str, ...]:
        """Return what its reader should know of it, one fact a line; complete once it has been read."""
        told = [*self.notices]
        if self.is_torn:
            told.append("its last line is torn: the process was killed, or is still writing")
        elif self.end is None:
            told.append("it was not closed in order: the process was killed, or is still writing")
        elif self.end.dropped:
            told.append(f"{self.end.dropped:,} records were not written, for want of time or room")
        if self.unreadable:
            told.append(f"{self.unreadable:,} of its lines could not be read")
        return tuple(told)

    def _open(self) -> BinaryIO:
        try:
            return self.path.open("rb")
        except OSError as error:
            raise RecordingError(f"{self.path} cannot be read: {error.strerror}") from error

    def _lines(self) -> Iterator[bytes]:
        try:
            with self._open() as file:
                file.readline(MAX_LINE)
                while line := file.readline(MAX_LINE + 1):
                    if line.endswith(b"\n"):
                        yield line
                    elif len(line) <= MAX_LINE:
                        self.is_torn = True
                    else:
                        self.unreadable += 1
                        while line and not line.endswith(b"\n"):  # to the end of what is too long
                            line = file.readline(MAX_LINE)
        except OSError as error:
            raise RecordingError(f"{self.path} cannot be read: {error.strerror}") from error

    def _header(self, line: bytes) -> Header:
        if not line.startswith(_MARK):
            raise RecordingError(f"{self.path} is no recording: make one with Upshift.record_to(…)")
        try:
            version = msgspec.json.decode(line, type=_Version)
            if version.format > FORMAT:
                raise RecordingError(
                    f"{self.path} was written by Upshift {version.upshift} in format {version.format},"
                    f" and this Upshift reads up to {FORMAT}: use the later one"
                )
            return msgspec.json.decode(line, type=Header)
        except _FAULTS as error:
            raise RecordingError(f"{self.path} is no recording: its first line is damaged") from error
