"""A TCP proxy in front of a server, which can treat its connections badly."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

CHUNK = 65_536


class Proxy:
    """Forwards to a port of this machine, from a thread of its own, until something else is asked.

    Attributes:
        port: where it listens; the same for as long as it lives.
    """

    def __init__(self, target: int) -> None:
        self.port = 0
        self._target = target
        self._pairs: set[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = set()
        self._server: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._flows = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._flows.set()
        self._do(self._listen)

    def drop(self) -> None:
        """Reset all connections, as a firewall does that has forgotten them."""
        self._do(self._drop)

    def half_close(self) -> None:
        """End all connections towards the client only; what it sends still arrives."""
        self._do(self._half_close)

    def stall(self) -> None:
        """Let nothing through any more; new connections are accepted, and hear nothing."""
        self._loop.call_soon_threadsafe(self._flows.clear)

    def flow(self) -> None:
        """Let through again what has waited."""
        self._loop.call_soon_threadsafe(self._flows.set)

    def cut(self) -> None:
        """Reset all connections, and refuse new ones."""
        self._do(self._stop_listening)
        self.drop()

    def mend(self) -> None:
        """Accept connections again."""
        self._do(self._listen)

    def close(self) -> None:
        self._do(self._stop_listening)
        self.drop()
        self._do(self._end)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _do(self, what: Callable[[], Coroutine[Any, Any, None]]) -> None:
        asyncio.run_coroutine_threadsafe(what(), self._loop).result(10)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _stop_listening(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _drop(self) -> None:
        for pair in tuple(self._pairs):
            for writer in pair:
                # With SO_LINGER at zero, closing sends a reset.
                plain = writer.get_extra_info("socket")
                with suppress(OSError):  # the other side was faster
                    plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()

    async def _half_close(self) -> None:
        for client, _ in tuple(self._pairs):
            with suppress(OSError):
                client.write_eof()

    async def _end(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        try:
            answers, server = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            client.transport.abort()
            return
        pair = (client, server)
        self._pairs.add(pair)
        try:
            # A side that was reset resets the other; the cancellation is that of the very end.
            with suppress(OSError, RuntimeError, asyncio.CancelledError):
                await asyncio.gather(self._pump(reader, server), self._pump(answers, client))
        finally:
            self._pairs.discard(pair)
            for writer in pair:
                writer.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(CHUNK):
            await self._flows.wait()
            writer.write(data)
            await writer.drain()
        writer.write_eof()
