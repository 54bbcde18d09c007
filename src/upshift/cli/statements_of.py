"""Where the statements come from that a command tells of: an application that runs, or a file."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request
from dataclasses import asdict
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlencode, urlsplit

import msgspec

from upshift.cli.progress import ProgressLine
from upshift.diagnose.formats.display import one_line
from upshift.diagnose.recorded import observe
from upshift.errors import UpshiftError
from upshift.record.recording import Recording
from upshift.sql.analysis.document import Choice, Document, select

if TYPE_CHECKING:
    from collections.abc import Mapping

    from upshift.record import Record

TIMEOUT_SECONDS = 10.0
"""How long the application may take to answer."""

MAX_BYTES = 64 * 2**20
"""Bytes of an answer, or of a saved document."""

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


def ask(url: str, path: str, query: Mapping[str, object]) -> bytes:
    """Ask an application that runs on this machine.

    Args:
        url: its address; one with a path is asked there.
        path: where it is asked otherwise.
        query: what it is asked.

    Raises:
        UpshiftError: it does not answer, or not with what was asked for.
    """
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise UpshiftError(f"{one_line(url)} is no address of an application: {error}") from error
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise UpshiftError(f"{one_line(url)} is no address of an application: http://127.0.0.1:8000")
    path = parts.path if parts.path.strip("/") else path
    address = f"{parts.scheme}://{parts.netloc}{path}?{urlencode(query)}"
    # No proxy of the environment's: the application answers this machine only.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect)
    try:
        with opener.open(address, timeout=TIMEOUT_SECONDS) as answer:
            body: bytes = answer.read(MAX_BYTES + 1)
    except urllib.error.HTTPError as error:
        said = one_line(error.read(500).decode("utf-8", "replace").strip()) if error.code != 404 else _HINT  # noqa: PLR2004
        raise UpshiftError(f"{one_line(url)} answered {error.code}: {said}") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise UpshiftError(f"{one_line(url)} does not answer: {one_line(str(reason))}") from error
    if len(body) > MAX_BYTES:
        raise UpshiftError(f"{one_line(url)} answered more than {MAX_BYTES // 2**20} MB")
    return body


_HINT = "nothing tells of statements there; it may be turned off, or have another path (queries_path)"


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """An application that sends elsewhere has no such path."""

    def redirect_request(self, *_: object, **__: object) -> None:
        """Follow nowhere."""


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
