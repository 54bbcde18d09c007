"""An answer on its way out: held back until all of it is there, or until it is known not to be stored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.types import Message, Send

    from upshift.cache.responses.faults import Faults

BODY = "http.response.body"
START = "http.response.start"


class Keeper(Protocol):
    """Decides what becomes of an answer."""

    def begins(self, start: Message) -> bool:
        """Take the start of an answer, and tell whether the rest is wanted."""

    def may_hold(self, size: int, *, is_whole: bool) -> bool:
        """Whether so many bytes of the body, all of it or not, may be held."""

    async def completes(self, start: Message, body: bytes) -> Iterable[Message]:
        """Take a whole answer, and return the messages to send."""


class Held:
    """Stands in the place of `send`.

    What is not wanted goes on as it comes; what was held until that was known goes first.

    Args:
        send: where messages go.
        keeper: decides; what it fails to decide is not stored.
        faults: are told where it fails.
    """

    __slots__ = ("_faults", "_keeper", "_pieces", "_send", "_size", "_start")

    def __init__(self, send: Send, keeper: Keeper, faults: Faults) -> None:
        self._send = send
        self._keeper = keeper
        self._faults = faults
        self._start: Message | None = None
        self._pieces: list[bytes] = []
        self._size = 0

    async def send(self, message: Message) -> None:
        """Take a message of the application's."""
        kind = message["type"]
        if kind == START and self._begins(message):
            self._start = message
        elif kind == BODY and self._start is not None:
            await self._on_body(self._start, message)
        else:
            await self.release()
            await self._send(message)

    async def release(self) -> None:
        """Send what is held."""
        start, self._start = self._start, None
        if start is None:
            return
        await self._send(start)
        body, self._pieces = b"".join(self._pieces), []
        if body:
            await self._send({"type": BODY, "body": body, "more_body": True})

    async def _on_body(self, start: Message, message: Message) -> None:
        piece = message.get("body", b"")
        is_last = not message.get("more_body", False)
        self._size += len(piece)
        if not self._may_hold(is_whole=is_last):
            await self.release()
            await self._send(message)
            return
        self._pieces.append(piece)
        if is_last:
            self._start = None
            body, self._pieces = b"".join(self._pieces), []
            for each in await self._completed(start, body):
                await self._send(each)

    def _begins(self, start: Message) -> bool:
        with self._faults:
            return self._keeper.begins(start)
        return False

    def _may_hold(self, *, is_whole: bool) -> bool:
        with self._faults:
            return self._keeper.may_hold(self._size, is_whole=is_whole)
        return False

    async def _completed(self, start: Message, body: bytes) -> Iterable[Message]:
        with self._faults:
            return await self._keeper.completes(start, body)
        return start, {"type": BODY, "body": body}


def without_body(send: Send) -> Send:
    """Return a `send` that sends header fields only, as HEAD wants."""

    async def headless_send(message: Message) -> None:
        await send({**message, "body": b""} if message["type"] == BODY else message)

    return headless_send
