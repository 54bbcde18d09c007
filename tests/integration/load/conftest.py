"""A real server on a free port of the loopback, whose every answer a test writes itself."""

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable

import pytest

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Server:
    """Runs `converse` for each connection, in a thread of its own.

    Attributes:
        requests: the heads and bodies received, in order.
        connections: connections accepted so far, the generator's first look at the server not included.
        most_open: how many were open at once at most.
    """

    def __init__(self, converse: Callable[["Server", "Peer"], Awaitable[None]]) -> None:
        self._converse = converse
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._writers: set[asyncio.StreamWriter] = set()
        self._open = 0
        self.requests: list[bytes] = []
        self.connections = 0
        self.most_open = 0

    def start(self, **options) -> "Server":
        self._server = self._call(
            asyncio.start_server(self._accept, "127.0.0.1", 0, backlog=1_000, **options)
        )
        self.port = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        return self

    def _call(self, work):
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _accept(self, reader, writer) -> None:
        self._writers.add(writer)
        self._open += 1
        self.most_open = max(self.most_open, self._open)
        peer = Peer(self, reader, writer)
        try:
            await self._converse(self, peer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._open -= 1
            self._writers.discard(writer)
            writer.close()

    def die(self) -> None:
        """Stop listening and reset every connection; to be called from `converse`."""
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()

    def stop(self) -> None:
        async def close() -> None:
            self.die()
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        self._call(close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


class Peer:
    """The server's end of one connection."""

    def __init__(self, server: Server, reader, writer) -> None:
        self._server = server
        self._reader = reader
        self._writer = writer
        self._asked = False

    async def request(self) -> bytes:
        """The next request."""
        head = await self._reader.readuntil(b"\r\n\r\n")
        _, _, length = head.lower().partition(b"content-length: ")
        body = await self._reader.readexactly(int(length.split(b"\r\n")[0])) if length else b""
        if not self._asked:
            self._asked = True
            self._server.connections += 1
        self._server.requests.append(head + body)
        return head + body

    async def answer(self, data: bytes = OK) -> None:
        self._writer.write(data)
        await self._writer.drain()

    def close(self) -> None:
        self._writer.close()

    async def gone(self) -> None:
        """Wait until the other end has closed."""
        await self._reader.read()


@pytest.fixture
def serve():
    """Start a server: `serve(converse)`, or `serve(answer_bytes)` for the same answer to every request."""
    servers = []

    def start(converse=OK, **options) -> Server:
        async def always(_, peer) -> None:
            while True:
                await peer.request()
                await peer.answer(converse)

        server = Server(always if isinstance(converse, bytes) else converse).start(**options)
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.stop()


@pytest.fixture
def unused_port():
    """A port of the loopback that is bound, so nobody else takes it, and does not listen."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]
