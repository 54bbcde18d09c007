"""Read-your-writes from one request of a client to its next.

A request that wrote is answered with the position of its commit (`upshift.sql.replicas.carriers`). The
client's next request brings it, and reads only from replicas that have come that far, or from the primary.

The position is asked for once, when the response begins: what the request committed is before it. A
transaction that is open then may commit later (dependencies of FastAPI end after the response), so its
position is not known, and the client is told "the primary" until every replica must have it. Of a transaction
that begins after the response it cannot be told; that is counted.

Requests that are meant to change something read from the primary from their start: what they decide on must
not be old.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import anyio
from starlette.datastructures import MutableHeaders

from upshift.errors import SettingsError
from upshift.sql.replicas.carriers import SignedCarrier
from upshift.sql.replicas.position import BEYOND
from upshift.sql.replicas.tokens import Tokens

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from upshift.settings import ReplicaSettings
    from upshift.sql.replicas.carriers import Carrier
    from upshift.sql.replicas.replicas import Replicas
    from upshift.sql.replicas.visit import Visit

logger = logging.getLogger("upshift.sql")

READING_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
POSITION_SECONDS = 1.0
"""How long the primary may take to tell its position; after that, the client is sent to the primary."""

LATE_SECONDS = 5.0
"""How long a transaction that is open when the response begins may take to commit."""


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
    carrier = replicas.carrier or SignedCarrier(Tokens(settings.replica_secrets), settings.replica_carrier)
    methods = settings.replica_methods
    return lambda app: ReadYourWrites(app, replicas, carrier, seconds=seconds, methods=methods)


class ReadYourWrites:
    """Makes each request one visit, and carries what it wrote to the client's next; see the module's words.

    Args:
        app: the application.
        replicas: what its sessions read from.
        carrier: carries positions.
        seconds: for how long; longer than any replica that is read from may be behind.
        methods: methods of requests that read from replicas.
    """

    def __init__(
        self,
        app: ASGIApp,
        replicas: Replicas,
        carrier: Carrier,
        *,
        seconds: float = 60.0,
        methods: Collection[str] = READING_METHODS,
    ) -> None:
        self._app = app
        self._replicas = replicas
        self._carrier = carrier
        self._seconds = seconds
        self._methods = frozenset(methods)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request as one visit; anything else goes through."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        after = await self._carrier.take(scope)
        reads = scope["method"] in self._methods
        is_told = is_complete = False

        async def tell_and_send(message: Message) -> None:
            nonlocal is_told, is_complete
            if message["type"] == "http.response.start" and (visit.has_written or visit.writing):
                is_complete = not visit.writing
                is_told = await self._tell(visit, scope, MutableHeaders(scope=message))
            await send(message)

        with self._replicas.visit(after, reads_replicas=reads) as visit:
            try:
                await self._app(scope, receive, tell_and_send)
            finally:
                if visit.has_written and not (is_told and is_complete):
                    is_told = await self._tell(visit, scope, None) or is_told
                    if not is_told:
                        self._note_late_write(scope)

    async def _tell(self, visit: Visit, scope: Scope, headers: MutableHeaders | None) -> bool:
        position, seconds = BEYOND, self._replicas.catch_up_seconds + LATE_SECONDS
        if not visit.writing:
            try:
                with anyio.fail_after(POSITION_SECONDS):
                    position, seconds = await self._replicas.position_async(), self._seconds
            except Exception as error:  # noqa: BLE001 - whatever it is, the response is good
                self._replicas.faults += 1
                if self._replicas.faults == 1:
                    logger.warning("the primary's position could not be had (%s)", type(error).__name__)
        return await self._carrier.give(scope, headers, position, seconds)

    def _note_late_write(self, scope: Scope) -> None:
        self._replicas.late_writes += 1
        if self._replicas.late_writes == 1:
            logger.warning(
                "%s %s committed after its response had begun: the client may not read for some moments what"
                " it wrote; later ones are only counted",
                scope["method"],
                scope["path"],
            )
