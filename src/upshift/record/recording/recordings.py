"""Which recordings are under way, so that a record costs nothing when there are none."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from upshift.record.model import Record
    from upshift.record.recording.writing import RecordingWriter


class Recordings:
    """The recordings of one application that are under way; mostly there are none.

    Args:
        drain: hands on the records that wait.
        on_change: told whether there are any, whenever one begins or ends.
    """

    def __init__(self, drain: Callable[[], None], on_change: Callable[[bool], None]) -> None:
        self._drain = drain
        self._on_change = on_change
        self._open: tuple[RecordingWriter, ...] = ()
        self._past_faults = 0
        self._past_dropped = 0

    @property
    def faults(self) -> int:
        """Faults of all recordings."""
        return self._past_faults + sum(each.faults for each in self._open)

    @property
    def dropped(self) -> int:
        """Records that were not written to some recording."""
        return self._past_dropped + sum(each.dropped for each in self._open)

    def take(self, record: Record) -> None:
        """Hand a closed record to all recordings."""
        for recording in self._open:
            recording.take(record)

    def add(self, recording: RecordingWriter) -> RecordingWriter:
        """Begin with a recording; it leaves by itself when it is closed."""
        self._on_change(True)
        self._drain()  # what was closed before is not in it, nor complete
        recording.on_close = self._remove
        self._open = (*self._open, recording)
        return recording

    def flush(self) -> None:
        """Have all that was taken written."""
        for recording in self._open:
            recording.flush()

    def close(self) -> None:
        """Close all recordings."""
        for recording in self._open:
            recording.close()

    def _remove(self, recording: RecordingWriter) -> None:
        self._drain()
        self._open = tuple(each for each in self._open if each is not recording)
        self._past_faults += recording.faults
        self._past_dropped += recording.dropped
        self._on_change(bool(self._open))
