"""Where the statements come from that a command tells of: an application that runs, or a file."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from upshift.cli.asking import MAX_BYTES, ask
from upshift.cli.progress import ProgressLine
from upshift.diagnose.formats.display import one_line
from upshift.diagnose.recorded import observe
from upshift.errors import UpshiftError
from upshift.record.recording import Recording
from upshift.sql.analysis.document import Choice, Document, select

if TYPE_CHECKING:
    from upshift.record import Record

PATH = "/upshift/queries"
ALL = Choice(top=100_000)

_JSON = b'{"version":'


class Told(NamedTuple):
    """A document, and what its reader should know."""

    document: Document
    notes: tuple[str, ...] = ()


def statements_of(target: str, choice: Choice) -> Told:
    """Return the statements of a target.

    Args:
        target: the address of an application, a recording, or a document that was saved.
        choice: which statements.

    Raises:
        UpshiftError: the application does not answer, or answers something else.
        RecordingError: the file is no recording.
    """
    if "://" in target:
        return Told(_decoded(ask(target, PATH, asdict(choice)), target))
    saved = _saved(target)
    if saved is not None:
        return Told(select(_decoded(saved, target), choice))
    with ProgressLine() as progress:
        recording = Recording(target)

        def show(_: Record) -> None:
            if recording.records % 1_000 == 0:
                progress.show(f"{recording.records:,} records read")

        recorded = observe(recording, on_record=show)
    return Told(select(recorded.document, choice), recorded.remarks)


def _saved(file: str) -> bytes | None:
    """Return what is in a file if it may be a document, which begins otherwise than a recording."""
    try:
        with open(file, "rb") as opened:  # noqa: PTH123 - any name that the system takes
            head = opened.read(len(_JSON))
            return head + opened.read(MAX_BYTES) if head == _JSON else None
    except (OSError, ValueError) as error:
        raise UpshiftError(f"{one_line(file)} cannot be read: {getattr(error, 'strerror', error)}") from error


def _decoded(body: bytes, target: str) -> Document:
    try:
        return msgspec.json.decode(body, type=Document)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UpshiftError(
            f"{one_line(target)} does not tell of statements: {one_line(str(error))}"
        ) from error
