"""A small ASGI client: starts an application, sends it requests in process, and stops it."""

from __future__ import annotations

import asyncio
import re
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote, urlsplit

from upshift.errors import ApplicationLoadError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from starlette.types import ASGIApp, Message

MAX_BODY = 10_000_000
"""Bytes of a body kept; an endless stream is cut off there."""

ABANDON_SECONDS = 1.0
"""How long an application may take to end a request whose client went away."""

STARTUP_SECONDS = 60.0
"""How long an application may take to start or to stop."""


_FRAME = re.compile(r'^(?P<margin>(?: *\| )?)  File ".*", line \d+', re.MULTILINE)


class Response(NamedTuple):
    """What the application answered.

    Attributes:
        status: the HTTP status; 0 where no response was started.
        headers: by lower-case name; of repeated ones the last.
        body: the body as sent, at most `MAX_BODY` bytes of it.
        error: the exception that left the application, if one did.
    """

    status: int
    headers: dict[str, str]
    body: bytes
    error: Exception | None = None


async def get(
    app: ASGIApp, target: str, headers: Mapping[str, str] | None = None, *, answer_seconds: float = 30.0
) -> Response:
    """Send a GET request and return the whole response.

    Args:
        app: the application.
        target: path and query, percent-encoded.
        headers: the request's headers.
        answer_seconds: seconds until the client goes away. A worker thread that blocks longer is left behind.

    Raises:
        TimeoutError: the application did not answer in time.
    """
    gone = asyncio.Event()
    asked = False
    status = 0
    answered: dict[str, str] = {}
    chunks: list[bytes] = []
    size = 0

    async def receive() -> Message:
        nonlocal asked
        if not asked:
            asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        nonlocal status, size
        if message["type"] == "http.response.start":
            status = message["status"]
            answered.update(
                (k.decode("latin-1").lower(), v.decode("latin-1")) for k, v in message.get("headers", ())
            )
        elif message["type"] == "http.response.body":
            body = message.get("body", b"")[: MAX_BODY - size]
            chunks.append(body)
            size += len(body)
            if size >= MAX_BODY or not message.get("more_body", False):
                gone.set()

    async def run() -> Exception | None:
        try:
            await app(_scope(target, headers or {}), receive, send)
        except Exception as error:  # noqa: BLE001 - the application's own; the caller reports it
            return error
        return None

    task = asyncio.ensure_future(run())
    if not await _ends(task, gone, answer_seconds):
        raise TimeoutError(f"no complete answer within {answer_seconds:g} s")
    return Response(status, answered, b"".join(chunks), task.result())


async def _ends(task: asyncio.Task[Any], gone: asyncio.Event, seconds: float) -> bool:
    """Wait for a request, and have the client go away when it takes too long or nobody waits any more."""
    is_done = False
    try:
        done, _ = await asyncio.wait({task}, timeout=seconds)
        is_done = bool(done)
    finally:
        if not is_done:
            gone.set()
            task.cancel()
            # A sync endpoint's thread cannot be cancelled, so the task is not waited for without end.
            await asyncio.wait({task}, timeout=ABANDON_SECONDS)
    return is_done


def _scope(target: str, headers: Mapping[str, str]) -> dict[str, Any]:
    parts = urlsplit(target)
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": unquote(parts.path),
        "raw_path": parts.path.encode(),
        "query_string": parts.query.encode(),
        "root_path": "",
        "headers": [
            (b"host", b"localhost"),
            *((k.lower().encode(), v.encode()) for k, v in headers.items()),
        ],
        "client": ("127.0.0.1", 1),
        "server": ("localhost", 80),
        "state": {},
    }


@asynccontextmanager
async def lifespan(app: ASGIApp) -> AsyncIterator[None]:
    """Start the application, and stop it at the end; one without a lifespan just runs.

    Raises:
        ApplicationLoadError: it failed to start, or took too long.
    """
    inbox: asyncio.Queue[Message] = asyncio.Queue()
    outbox: asyncio.Queue[Message] = asyncio.Queue()
    scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": {}}

    async def run() -> None:
        with suppress(Exception):  # an application that knows no lifespan raises; so does a failed one
            await app(scope, inbox.get, outbox.put)
        await outbox.put({"type": "ended"})  # after what it said, if it said something

    task = asyncio.ensure_future(run())
    await inbox.put({"type": "lifespan.startup"})
    try:
        answer = await asyncio.wait_for(outbox.get(), STARTUP_SECONDS)
    except TimeoutError:
        task.cancel()
        raise ApplicationLoadError(f"the application did not start within {STARTUP_SECONDS:.0f} s") from None
    if answer["type"] == "lifespan.startup.failed":
        raise ApplicationLoadError(f"the application failed to start: {_error_in(answer.get('message', ''))}")
    try:
        yield
    finally:
        if answer["type"] == "lifespan.startup.complete":
            await inbox.put({"type": "lifespan.shutdown"})
            await asyncio.wait({task}, timeout=STARTUP_SECONDS)
        task.cancel()


def _error_in(message: str) -> str:
    """Return the line that names the error: Starlette's message is a whole traceback, others' are a line."""
    frames = list(_FRAME.finditer(message))
    if not frames:
        return message.strip().partition("\n")[0] or "it said nothing"
    margin = frames[-1]["margin"]  # of an exception group's branches
    after = (line.removeprefix(margin) for line in message[frames[-1].end() :].splitlines()[1:])
    return next((line for line in after if line and line[0] != " "), "").strip()
