"""What is told to callers on this machine only, and to nobody behind a proxy.

A connection from a loopback address may still carry the request of somebody else: a proxy beside the
application hands on what the world asks, and a page in a browser of this machine may have had its name lead
to 127.0.0.1 (DNS rebinding). So a request is refused also when it says that it was forwarded, when it asks
for another host than this machine, and when it is HTTP/1.0, which proxies speak and nobody else does.

A proxy on this machine that does none of this cannot be told from a local caller. Whoever has one turns the
path off, or refuses it there.
"""

from __future__ import annotations

import logging
import re
from ipaddress import ip_address
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

import msgspec
from anyio import CapacityLimiter
from anyio.lowlevel import RunVar
from anyio.to_thread import run_sync

from upshift.telemetry.answer import MAX_QUERY, TEXT, Answer, send_answer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from starlette.types import Receive, Scope, Send

_FORWARDED = re.compile(
    rb"forwarded|via|x-forwarded-.*|x-real-ip|x-client-ip|x-original-.*|true-client-ip|cf-.*"
)
COMMAND = b"x-upshift-command"
"""The header that each request has which changes something."""

_OF_BROWSERS = frozenset({b"origin", b"referer", b"cookie", b"sec-fetch-site", b"sec-fetch-mode"})
_PORT = re.compile(r":\d+$")

logger = logging.getLogger("upshift.telemetry")


class LocalEndpoint:
    """Answers callers on this machine with JSON, made in a thread, one answer at a time.

    Args:
        answer: makes the answer, given the query's parameters.
        changes: whether it changes something. Then no browser is answered: a page from anywhere may have one
            send a request to this machine, though it cannot read the answer.

    Attributes:
        faults: answers that could not be made; the first is logged.
    """

    def __init__(self, answer: Callable[[Mapping[str, str]], bytes], *, changes: bool = False) -> None:
        self.faults = 0
        self._changes = changes
        self._answer = answer
        # A limiter belongs to one event loop. This one takes no threads from the application's.
        self._limiter: RunVar[CapacityLimiter] = RunVar(f"upshift_local_{id(self)}")

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        """Answer, or say why not."""
        refused = refusal(scope) or (browser_refusal(scope) if self._changes else "")
        if refused:
            answer = Answer(403, TEXT, refused.encode())
        else:
            answer = await self._told(scope.get("query_string", b""))
        await send_answer(answer, scope, send)

    async def _told(self, query: bytes) -> Answer:
        limiter = self._limiter.get(None)
        if limiter is None:
            limiter = CapacityLimiter(1)
            self._limiter.set(limiter)
        parameters = dict(parse_qsl(query[:MAX_QUERY].decode("latin-1")))
        try:
            body = await run_sync(self._answer, parameters, limiter=limiter)
        except msgspec.ValidationError as error:
            return Answer(400, TEXT, str(error).encode("utf-8", "replace"))
        except Exception:
            self.faults += 1
            if self.faults == 1:
                logger.exception("an answer could not be made; later faults are only counted")
            return Answer(503, TEXT, b"it could not be told; the application's log says why")
        return Answer(200, b"application/json", body)


def refusal(scope: Scope) -> str:
    """Tell why a request is refused; "" where it comes from this machine.

    Example:
        >>> headers = [(b"host", b"localhost:8000")]
        >>> scope = {"type": "http", "client": ("127.0.0.1", 50_000), "headers": headers}
        >>> refusal(scope)
        ''
        >>> refusal(scope | {"client": ("10.0.0.7", 50_000)})
        'only callers on the same machine are answered here'
    """
    client = scope.get("client")
    if not client or not _is_loopback(client[0]):
        return "only callers on the same machine are answered here"
    headers = scope["headers"]
    if scope.get("http_version") == "1.0" or any(_FORWARDED.fullmatch(name) for name, _ in headers):
        return "only callers on the same machine are answered here, and this came through a proxy"
    hosts = [value.decode("latin-1") for name, value in headers if name in {b"host", b":authority"}]
    if len(hosts) != 1 or not _is_here(_PORT.sub("", hosts[0]).strip("[]").lower()):
        return "only what is asked of localhost is answered here"
    return ""


def browser_refusal(scope: Scope) -> str:
    """Tell why a request that changes something is refused; "" where no browser has sent it.

    A page can neither leave these away nor, without being allowed to by the application, add `COMMAND`.

    Example:
        >>> browser_refusal({"headers": [(COMMAND, b"1")]})
        ''
        >>> browser_refusal({"headers": [(COMMAND, b"1"), (b"origin", b"http://localhost:8000")]})
        'browsers are not answered here'
    """
    names = {name for name, _ in scope["headers"]}
    if COMMAND not in names:
        return f"a request that changes something has the header {COMMAND.decode()}"
    return "browsers are not answered here" if names & _OF_BROWSERS else ""


def _is_here(host: str) -> bool:
    return host == "localhost" or host.endswith(".localhost") or _is_loopback(host)


def _is_loopback(host: str) -> bool:
    try:
        address = ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback
