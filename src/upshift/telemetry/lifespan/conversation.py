"""What is said between a server and an application about one start and one end, with ours in between.

The server hears the same words in the same order as without us. An application that does not know the
lifespan protocol (it raises, or returns at once) is spoken for, so that what is ours is started and stopped
all the same.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from upshift.telemetry.error_text import describe
from upshift.telemetry.lifespan.deadline import Ending, end_in_turn
from upshift.telemetry.lifespan.drain import Drain
from upshift.telemetry.lifespan.resources import Running

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from upshift.telemetry.lifespan.lifespan import Lifespan

logger = logging.getLogger("upshift.telemetry")


class Conversation:
    """One start and one end of an application.

    Args:
        lifespan: what to start and to stop.
        app: the application.
        scope: of the lifespan; the application gets it as it is.
        receive: the server's.
        send: the server's.
    """

    def __init__(self, lifespan: Lifespan, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        self._lifespan = lifespan
        self._app = app
        self._scope = scope
        self._receive = receive
        self._send = send
        self._running: list[Running] = []
        self._drain = Drain(lifespan.settings.drain_seconds, self._begin_to_drain)
        self._startup: Message | None = None
        self._is_up = False
        self._is_asked_to_end = False
        self._has_ended = False

    async def hold(self) -> None:
        """Hold it from the server's first message to the last answer."""
        self._startup = await self._receive()
        self._lifespan.phase = "starting"
        try:
            failure = await self._start()
            if failure:
                await self._end()
                await self._send({"type": "lifespan.startup.failed", "message": failure})
            else:
                await self._ask_app()
        finally:
            await self._end()

    async def _start(self) -> str:
        """Start ours, and return why that failed, or nothing."""
        try:
            resources = self._lifespan.in_order()
        except ValueError as error:
            return f"Upshift cannot start: {error}"
        for resource in resources:
            running = Running(resource)
            try:
                await running.start()
            except Exception as error:
                logger.exception("%r did not start", resource.name)
                return f"Upshift could not start {resource.name!r}: {describe(error)}"
            self._running.append(running)
        return ""

    async def _ask_app(self) -> None:
        fault: Exception | None = None
        try:
            await self._app(self._scope, self._receive_for_app, self._send_for_app)
        except Exception as error:  # noqa: BLE001 - the server gets it when ours has ended
            fault = error
        if not self._has_ended:
            if not self._is_up:
                self._note_silence(fault)
                fault = None
                await self._send_for_app({"type": "lifespan.startup.complete"})
            elif fault is not None and not self._is_asked_to_end:
                logger.error("the application's lifespan broke off; requests go on", exc_info=fault)
            while not self._is_asked_to_end:
                await self._receive_for_app()
            await self._end()
            if fault is None:
                await self._send({"type": "lifespan.shutdown.complete"})
        if fault is not None:
            raise fault

    def _note_silence(self, fault: Exception | None) -> None:
        if fault is not None and self._startup is None:
            # ASGI has servers go on here.
            logger.error("the application failed to start without saying so; it is served", exc_info=fault)
        else:
            logger.debug("the application has no lifespan", exc_info=fault)

    async def _receive_for_app(self) -> Message:
        if self._startup is not None:
            message, self._startup = self._startup, None
            return message
        message = await self._receive()
        if message["type"] == "lifespan.shutdown":
            self._is_asked_to_end = True
            self._begin_to_drain()
        return message

    async def _send_for_app(self, message: Message) -> None:
        if message["type"] == "lifespan.startup.complete":
            self._is_up = True
            self._lifespan.phase = "serving"
            self._install_drain()
        else:  # it did not start, or it has ended
            await self._end()
        await self._send(message)

    def _install_drain(self) -> None:
        try:
            self._drain.install()
        except Exception:
            self._lifespan.faults += 1
            logger.exception("SIGTERM cannot be held back; the server hears it at once")

    def _begin_to_drain(self) -> None:
        self._lifespan.phase = "draining"

    async def _end(self) -> None:
        if self._has_ended:
            return
        self._has_ended = True
        self._drain.close()
        if self._is_up:
            self._begin_to_drain()
        stops = [Ending(f"stopping {running.name!r}", running.stop) for running in reversed(self._running)]
        endings = [*stops, *self._lifespan.last_calls]
        self._lifespan.faults += await end_in_turn(endings, self._lifespan.settings.shutdown_seconds)
        if self._is_up:
            self._lifespan.phase = "serving"  # as before its start: whoever asks from now on has no lifespan
