"""Records in a file: written while an application runs, read back by commands.

Flows in: closed records (`Recordings.take`). Flows out: a file of JSON lines, and from it the same records
(`Recording`).
"""

from upshift.record.recording.frames import FORMAT, Dialect, Header
from upshift.record.recording.parameters import Unrecorded
from upshift.record.recording.reading import Recording
from upshift.record.recording.recordings import Recordings
from upshift.record.recording.writing import RecordingWriter

__all__ = ["FORMAT", "Dialect", "Header", "Recording", "RecordingWriter", "Recordings", "Unrecorded"]
