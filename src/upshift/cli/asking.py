"""Asks an application that runs on this machine what it tells callers there only."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import urlencode, urlsplit

from upshift.diagnose.formats.display import one_line
from upshift.errors import UpshiftError

if TYPE_CHECKING:
    from collections.abc import Mapping

TIMEOUT_SECONDS = 10.0
"""How long the application may take to answer."""

MAX_BYTES = 64 * 2**20
"""Bytes of an answer, or of a saved document."""

STATEMENTS = "nothing tells of statements there; it may be turned off, or have another path (queries_path)"

COMMAND = "x-upshift-command"
"""The header that a request has which changes something: see `upshift.telemetry.local`."""


def ask(
    url: str, path: str, query: Mapping[str, object], hint: str = STATEMENTS, *, is_command: bool = False
) -> bytes:
    """Ask an application that runs on this machine.

    Args:
        url: its address; one with a path is asked there.
        path: where it is asked otherwise.
        query: what it is asked.
        hint: what to say where there is no such path.
        is_command: whether it is to change something.

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
        request = urllib.request.Request(address, method="POST" if is_command else "GET")  # noqa: S310 - http(s), see above
        if is_command:
            request.add_header(COMMAND, "1")
        with opener.open(request, timeout=TIMEOUT_SECONDS) as answer:
            body: bytes = answer.read(MAX_BYTES + 1)
    except urllib.error.HTTPError as error:
        with error:
            said = one_line(error.read(500).decode("utf-8", "replace").strip())
        if error.code == HTTPStatus.NOT_FOUND:
            said = hint
        raise UpshiftError(f"{one_line(url)} answered {error.code}: {said}") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise UpshiftError(f"{one_line(url)} does not answer: {one_line(str(reason))}") from error
    if len(body) > MAX_BYTES:
        raise UpshiftError(f"{one_line(url)} answered more than {MAX_BYTES // 2**20} MB")
    return body


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """An application that sends elsewhere has no such path."""

    def redirect_request(self, *_: object, **__: object) -> None:
        """Follow nowhere."""
