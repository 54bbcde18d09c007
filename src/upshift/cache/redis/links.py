"""Connections for threads: blocking sockets, each used by one thread at a time.

redis-py's own connections would do, at two to three times the cost of a round trip; what a cache needs of
one is small: send commands, read as many answers, give up in time.
"""

from __future__ import annotations

import socket
from collections import deque
from time import monotonic
from typing import TYPE_CHECKING, Any

from upshift.cache.redis.wire import Unreachable, checked, greeting, is_unknown_script, run_of
from upshift.errors import MissingExtraError

try:
    from hiredis import ProtocolError, Reader
except ModuleNotFoundError as error:  # pragma: no cover - the extra is installed where tests run
    raise MissingExtraError("a cache in Redis", "redis") from error

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from upshift.cache.redis.servers import Finder, Server
    from upshift.cache.redis.wire import Command

PENDING = object()
"""What a reader returns where an answer is not there yet."""

MAX_IDLE = 32
"""Connections that are kept for the next thread."""

_CHUNK = 1 << 16


class SyncLink:
    """One connection.

    Args:
        server: where to.
        seconds: how long to connect may take, and then each exchange.

    Raises:
        Unreachable: it could not be made.
    """

    def __init__(self, server: Server, seconds: float) -> None:
        self._seconds = seconds
        self._reader = Reader(notEnoughData=PENDING)
        try:
            if server.path:
                self._socket = socket.socket(socket.AF_UNIX)
                self._socket.settimeout(seconds)
                self._socket.connect(server.path)
            else:
                self._socket = socket.create_connection((server.host, server.port), seconds)
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if server.tls is not None:
                    self._socket = server.tls.wrap_socket(self._socket, server_hostname=server.host)
        except OSError as error:
            self.close()
            raise Unreachable(f"{server}: {error}") from error

    def ask(self, commands: Sequence[Command]) -> list[Any]:
        """Send commands together, and return their answers; errors are among them.

        Raises:
            Unreachable: the answers have not come. The connection must not be used again.
        """
        replies = self._exchange([each.packed() for each in commands])
        for number, reply in enumerate(replies):
            if is_unknown_script(reply):
                replies[number] = self._exchange([commands[number].packed_whole()])[0]
        return replies

    def close(self) -> None:
        """Close it."""
        if hasattr(self, "_socket"):
            self._socket.close()

    def _exchange(self, packed: list[bytes]) -> list[Any]:
        replies: list[Any] = []
        ends = monotonic() + self._seconds
        try:
            self._socket.settimeout(self._seconds)
            self._socket.sendall(b"".join(packed))
            while len(replies) < len(packed):
                reply = self._reader.gets()
                if reply is not PENDING:
                    replies.append(reply)
                    continue
                left = ends - monotonic()
                if left <= 0:
                    raise TimeoutError("timed out")
                self._socket.settimeout(left)
                data = self._socket.recv(_CHUNK)
                if not data:
                    raise ConnectionResetError("the server has closed the connection")
                self._reader.feed(data)
        except (OSError, ProtocolError) as error:
            raise Unreachable(str(error)) from error
        return replies


class SyncLinks:
    """Connections to the server that a finder names.

    Args:
        finder: names it.
        join: returns what to say on a new connection, given the server's run.
        seconds: how long to connect may take, and then each exchange.
    """

    def __init__(self, finder: Finder, join: Callable[[str], Command], seconds: float) -> None:
        self._finder = finder
        self._join = join
        self._seconds = seconds
        self._idle: deque[SyncLink] = deque()

    def ask(self, commands: Sequence[Command]) -> list[Any]:
        """Return the answers to commands, none of which is an error.

        Raises:
            Unreachable: they have not come, or one is an error.
        """
        try:
            return [checked(reply) for reply in self._ask(commands)]
        except Unreachable as error:
            if not error.is_elsewhere:
                raise
        # Nothing has been done there, so it can be asked elsewhere at once.
        self._finder.lose()
        self.close()
        return [checked(reply) for reply in self._ask(commands)]

    def close(self) -> None:
        """Close the connections that nobody uses."""
        while self._idle:
            self._idle.pop().close()

    def _ask(self, commands: Sequence[Command]) -> list[Any]:
        try:
            link, is_new = self._idle.pop(), False
        except IndexError:
            link, is_new = self._connected(), True
        try:
            replies = _asked(link, commands)
        except Unreachable as error:
            if is_new or isinstance(error.__cause__, TimeoutError):
                raise
            self.close()  # those that were opened to a server that is gone
            link = self._connected()
            replies = _asked(link, commands)
        if len(self._idle) < MAX_IDLE:
            self._idle.append(link)
        else:
            link.close()
        return replies

    def _connected(self) -> SyncLink:
        """Connect; if it is not the server that wrote the fence, renew that before anything is read."""
        server = self._finder.find(self._seconds)
        try:
            link = SyncLink(server, self._seconds)
        except Unreachable:
            self._finder.lose()
            raise
        try:
            run = run_of(link.ask(greeting(server)))
            checked(link.ask([self._join(run)])[0])
        except BaseException:
            link.close()
            raise
        return link


def _asked(link: SyncLink, commands: Sequence[Command]) -> list[Any]:
    """Return the answers to commands; close the connection where they do not come."""
    try:
        return link.ask(commands)
    except BaseException:
        link.close()
        raise
