"""Connections for event loops: one for each, on which all of its tasks ask at once.

What is asked in one turn of the loop is sent in one piece, and answers come in the order of the questions.
So many tasks that look something up take one system call to ask, not one each.

No question has a timer of its own. One for the connection ticks while something is waited for; some ticks
without an answer, and the server is taken to hang. Ticks are counted, and not seconds, since a loop that is
busy with other things is late for its own timers too: between two of them it has looked for answers.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any, cast
from weakref import WeakKeyDictionary

from upshift.cache.redis.links import PENDING
from upshift.cache.redis.wire import Unreachable, checked, greeting, is_unknown_script, run_of
from upshift.errors import MissingExtraError

try:
    from hiredis import ProtocolError, Reader, ReplyError
except ModuleNotFoundError as error:  # pragma: no cover - the extra is installed where tests run
    raise MissingExtraError("a cache in Redis", "redis") from error

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from upshift.cache.redis.servers import Finder, Server
    from upshift.cache.redis.wire import Command


TICKS = 4
"""Ticks of the timer without an answer, after which there is none."""

_MUCH = 4_096
"""Bytes at once that are progress, though they complete no answer."""

_PIECE = 8_192
"""Bytes that a reader is given at once: with each few answers that it has read, it moves what is left."""


class AsyncLink(asyncio.Protocol):
    """One connection of one event loop.

    Args:
        loop: the loop.
        seconds: how long nothing may be answered.

    Attributes:
        loop: the loop.
        is_closed: whether it cannot be used any more.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        self.is_closed = False
        self.loop = loop
        self._tick_seconds = seconds / TICKS
        self._reader = Reader(notEnoughData=PENDING)
        self._transport: asyncio.Transport | None = None
        self._waiting: deque[asyncio.Future[Any]] = deque()
        self._unsent: list[bytes] = []
        self._ticks = 0
        self._timer: asyncio.TimerHandle | None = None

    def ask(self, packed: bytes) -> asyncio.Future[Any]:
        """Send a command with the others of this turn; the future brings its answer, or `Unreachable`."""
        future = self.loop.create_future()
        if self.is_closed:
            future.set_exception(Unreachable("the connection is closed"))
            return future
        if not self._unsent:
            self.loop.call_soon(self._send)
        self._unsent.append(packed)
        if not self._waiting:
            self._ticks = 0
            if self._timer is None:
                self._timer = self.loop.call_later(self._tick_seconds, self._tick)
        self._waiting.append(future)
        return future

    def close(self, reason: str = "the connection was closed") -> None:
        """Give up what is waited for, and close it at once."""
        self.is_closed = True
        if self._timer is not None:
            self._timer.cancel()
        if self._transport is not None:
            self._transport.abort()
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_exception(Unreachable(reason))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Hand out the answers that are complete."""
        if len(data) >= _MUCH:
            self._ticks = 0
        try:
            for start in range(0, len(data), _PIECE):
                self._reader.feed(data[start : start + _PIECE])
                while self._waiting and (reply := self._reader.gets()) is not PENDING:
                    self._ticks = 0
                    future = self._waiting.popleft()
                    if not future.done():  # else its task was cancelled
                        future.set_result(reply)
        except ProtocolError as error:
            self.close(f"what was answered is no answer: {error}")

    def connection_lost(self, error: Exception | None) -> None:
        """Tell those who wait."""
        self.close(str(error or "the server has closed the connection"))

    def _send(self) -> None:
        data, self._unsent = self._unsent, []
        self._ticks = 0
        if self._transport is not None and not self.is_closed:
            self._transport.write(data[0] if len(data) == 1 else b"".join(data))

    def _tick(self) -> None:
        self._timer = None
        if not self._waiting:
            return
        self._ticks += 1
        if self._ticks >= TICKS:
            self.close("timed out")
        else:
            self._timer = self.loop.call_later(self._tick_seconds, self._tick)


class AsyncLinks:
    """The connection of each event loop to the server that a finder names.

    Args:
        finder: names it.
        join: returns what to say on a new connection, given the server's run.
        seconds: how long to connect may take, and an answer.
    """

    def __init__(self, finder: Finder, join: Callable[[str], Command], seconds: float) -> None:
        self._finder = finder
        self._join = join
        self._seconds = seconds
        self._recent: AsyncLink | None = None
        self._links: WeakKeyDictionary[asyncio.AbstractEventLoop, AsyncLink] = WeakKeyDictionary()
        self._connecting: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Task[AsyncLink]] = (
            WeakKeyDictionary()
        )

    async def ask(self, commands: Sequence[Command]) -> list[Any]:
        """Return the answers to commands, none of which is an error.

        Raises:
            Unreachable: they have not come, or one is an error.
        """
        link = self._recent  # most have one loop, and a weak dictionary takes its time
        if link is None or link.loop is not asyncio.get_running_loop() or link.is_closed:
            link = await self._link()
        try:
            if len(commands) == 1:
                reply = await link.ask(commands[0].packed())
                if type(reply) is not ReplyError:
                    return [reply]
                replies = [reply]
            else:
                replies = await asyncio.gather(*[link.ask(each.packed()) for each in commands])
            for number, reply in enumerate(replies):
                if is_unknown_script(reply):
                    replies[number] = await link.ask(commands[number].packed_whole())
            return [checked(reply) for reply in replies]
        except Unreachable as error:
            if error.is_elsewhere:
                self._finder.lose()
                link.close("another server is the one to ask")
            raise

    def close(self) -> None:
        """Close all connections; from any thread, and without waiting."""
        for loop, link in list(self._links.items()):
            if not loop.is_closed():
                loop.call_soon_threadsafe(link.close)
        self._links.clear()
        self._recent = None

    async def _link(self) -> AsyncLink:
        """Return the loop's connection, made once for all who ask for it meanwhile."""
        loop = asyncio.get_running_loop()
        link = self._links.get(loop)
        if link is not None and not link.is_closed:
            self._recent = link
            return link
        task = self._connecting.get(loop)
        if task is None or task.done():
            task = self._connecting[loop] = loop.create_task(self._connect(loop))
            task.add_done_callback(_retrieve)
        return await asyncio.shield(task)  # one who is cancelled does not cancel it for the others

    async def _connect(self, loop: asyncio.AbstractEventLoop) -> AsyncLink:
        server = self._finder.found
        if server is None:  # the heartbeat asks, in a thread of its own
            raise Unreachable("it is not known which server to ask")
        link = AsyncLink(loop, self._seconds)
        opening = loop.create_task(_open(loop, link, server))
        try:
            await _done(opening, self._seconds)
            run = run_of(await asyncio.gather(*[link.ask(each.packed()) for each in greeting(server)]))
            join = self._join(run)
            reply = await link.ask(join.packed())
            checked(await link.ask(join.packed_whole()) if is_unknown_script(reply) else reply)
        except BaseException as error:
            opening.cancel()
            link.close()
            if isinstance(error, OSError):
                self._finder.lose()
                raise Unreachable(str(error)) from error
            raise
        self._links[loop] = link
        return link


async def _open(loop: asyncio.AbstractEventLoop, link: AsyncLink, server: Server) -> None:
    if server.path:
        await loop.create_unix_connection(lambda: link, server.path)
        return
    await loop.create_connection(
        lambda: link,
        server.host,
        server.port,
        ssl=server.tls,
        server_hostname=server.host if server.tls is not None else None,
    )


async def _done(task: asyncio.Task[None], seconds: float) -> None:
    """Wait for a task, as long as nothing may be answered."""
    for _ in range(TICKS):
        await asyncio.wait({task}, timeout=seconds / TICKS)
        if task.done():
            return task.result()
    raise Unreachable("timed out")


def _retrieve(task: asyncio.Task[AsyncLink]) -> None:
    if not task.cancelled():
        task.exception()  # those who wait have it; if all of them were cancelled, nobody asks
