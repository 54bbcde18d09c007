"""Which request something belongs to: the one that is open here, or else the one that an exception came from.

Servers and error trackers see what leaves the application where no request is open any more. The exception's
traceback still leads through the recorder, and so to the record.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from upshift.record.recorder import Recorder
from upshift.record.socket import SocketRecorder

if TYPE_CHECKING:
    from contextvars import ContextVar

    from upshift.record.model import Record

# The names that the recorders have for their records; a test fails when one is changed there only.
_VARIABLES = {Recorder.__call__.__code__: "record", SocketRecorder.__call__.__code__: "socket"}


def find_record(current: ContextVar[Record | None], exception: BaseException | None = None) -> Record | None:
    """Return the open record, or else the innermost one of the same application that an exception has passed.

    Args:
        current: holds the application's open record.
        exception: what is being told of, if it is an exception.
    """
    record = current.get()
    if record is not None or exception is None:
        return record
    traceback = exception.__traceback__
    while traceback is not None:
        frame = traceback.tb_frame
        if (name := _VARIABLES.get(frame.f_code)) and frame.f_locals["self"]._current is current:
            record = frame.f_locals.get(name, record)
        traceback = traceback.tb_next
    return record
