"""Read-your-writes from one request of a client to its next.

A request that wrote is answered with the position of its commit, in a signed token. The client's next request
brings it, and reads only from replicas that have come that far, or from the primary.

The position is asked for once, when the response begins: what the request committed is before it. A
transaction that is open then may commit later (dependencies of FastAPI end after the response), so its
position is not known, and the token says "the primary" until every replica must have it. For a transaction
that begins after the response no token can be given; that is counted.

Requests that are meant to change something read from the primary from their start: what they decide on must
not be old.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Literal

import anyio
from starlette.datastructures import Headers, MutableHeaders

from upshift.errors import SettingsError
from upshift.sql.replicas.position import BEYOND
from upshift.sql.replicas.tokens import Tokens

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from upshift.settings import ReplicaSettings
    from upshift.sql.replicas.position import Position
    from upshift.sql.replicas.replicas import Replicas
    from upshift.sql.replicas.visit import Visit

logger = logging.getLogger("upshift.sql")

Carrier = Literal["cookie", "header"]

HEADER = "x-upshift-position"
COOKIE = "upshift-position"
READING_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
POSITION_SECONDS = 1.0
"""How long the primary may take to tell its position; after that, the client is sent to the primary."""

LATE_SECONDS = 5.0
"""How long a transaction that is open when the response begins may take to commit."""

MAX_COOKIE_HEADER = 16_384
"""Characters of a Cookie header that is read."""


def read_your_writes(
    replicas: Replicas, settings: ReplicaSettings
) -> Callable[[ASGIApp], ReadYourWrites] | None:
    """Return what puts the middleware around an application, as settings ask for it; None where they do not.

    Raises:
        SettingsError: there is no secret, or tokens would be over too soon.
    """
    if settings.replica_carrier == "off":
        return None
    seconds = settings.replica_token_seconds
    if seconds <= replicas.catch_up_seconds:
        raise SettingsError(
            f"replica_token_seconds (UPSHIFT_REPLICA_TOKEN_SECONDS) is {seconds}; it has to be more than"
            f" the {replicas.catch_up_seconds} seconds that a replica may be behind"
        )
    tokens, carrier = Tokens(settings.replica_secrets), settings.replica_carrier
    return lambda app: ReadYourWrites(
        app, replicas, tokens, carrier=carrier, seconds=seconds, methods=settings.replica_methods
    )


class ReadYourWrites:
    """Hands positions to clients, and takes them back; see the module's words.

    Args:
        app: the application.
        replicas: what its sessions read from.
        tokens: signs and reads what clients carry.
        carrier: a cookie, for browsers, or the header `X-Upshift-Position` in both directions.
        seconds: how long a token is valid; longer than any replica that is read from may lag.
        methods: methods of requests that read from replicas.

    """

    def __init__(  # noqa: PLR0913 - one call site; each names what it is for
        self,
        app: ASGIApp,
        replicas: Replicas,
        tokens: Tokens,
        *,
        carrier: Carrier = "cookie",
        seconds: float = 60.0,
        methods: Collection[str] = READING_METHODS,
    ) -> None:
        self._app = app
        self._replicas = replicas
        self._tokens = tokens
        self._carrier = carrier
        self._seconds = seconds
        self._methods = frozenset(methods)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request as one visit; anything else goes through."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        after = self._position_in(Headers(scope=scope))
        reads = scope["method"] in self._methods
        has_begun = was_writing = False

        async def send_with_token(message: Message) -> None:
            nonlocal has_begun, was_writing
            if message["type"] == "http.response.start":
                has_begun = True
                if visit.has_written or visit.writing:
                    was_writing = True
                    self._put(await self._token(visit), MutableHeaders(scope=message), scope)
            await send(message)

        with self._replicas.visit(after, reads_replicas=reads) as visit:
            try:
                await self._app(scope, receive, send_with_token)
            finally:
                if has_begun and visit.has_written and not was_writing:
                    self._replicas.late_writes += 1
                    if self._replicas.late_writes == 1:
                        logger.warning(
                            "%s %s committed after its response had begun: the client may not read what it"
                            " wrote; later ones are only counted",
                            scope["method"],
                            scope["path"],
                        )

    def _position_in(self, headers: Headers) -> Position | None:
        if self._carrier == "header":
            return self._tokens.read(headers.get(HEADER, ""))
        text = headers.get("cookie", "")
        if COOKIE not in text or len(text) > MAX_COOKIE_HEADER:
            return None
        for part in text.split(";"):
            name, _, value = part.strip().partition("=")
            if name == COOKIE:
                return self._tokens.read(value)
        return None

    async def _token(self, visit: Visit) -> str:
        if not visit.writing:
            try:
                with anyio.fail_after(POSITION_SECONDS):
                    return self._tokens.make(await self._replicas.position_async(), self._seconds)
            except Exception as error:  # noqa: BLE001 - whatever it is, the response is good
                self._replicas.faults += 1
                if self._replicas.faults == 1:
                    logger.warning("the primary's position could not be had (%s)", type(error).__name__)
        return self._tokens.make(BEYOND, self._replicas.catch_up_seconds + LATE_SECONDS)

    def _put(self, token: str, headers: MutableHeaders, scope: Scope) -> None:
        if self._carrier == "header":
            headers[HEADER] = token
            return
        secure = "; Secure" if scope.get("scheme") == "https" else ""
        attributes = f"Path=/; Max-Age={int(self._seconds)}; HttpOnly; SameSite=Lax{secure}"
        headers.append("set-cookie", f"{COOKIE}={token}; {attributes}")
