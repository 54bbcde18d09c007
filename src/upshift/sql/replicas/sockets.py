"""Cuts the connections to one server from outside: its answers will not come, and somebody waits for them.

A thread that waits for a hanging server in a driver's C code cannot be interrupted, and the kernel gives up a
connection only after minutes. `shutdown(2)` makes the waiting end at once, with a lost connection, whichever
driver, thread or event loop waits.

A file descriptor may have been closed, and its number taken by another file, at any moment. So the number is
duplicated first, which holds whatever it means now, and only what is connected to the same server's address
is cut. The worst that can be hit is another connection to the address that hangs.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from typing import Any


class Sockets:
    """The sockets of connections to one server, by the numbers of their files."""

    def __init__(self) -> None:
        self._peers: dict[int, Any] = {}

    def add(self, connection: Any) -> None:  # noqa: ANN401 - any driver's connection
        """Remember a DBAPI connection. One whose driver does not tell its file is left alone."""
        number = _file_of(connection)
        if number is not None and (peer := _peer(number)) is not None:
            self._peers[number] = peer

    def discard(self, connection: Any) -> None:  # noqa: ANN401 - likewise
        """Forget a DBAPI connection that is about to be closed."""
        number = _file_of(connection)
        if number is not None:
            self._peers.pop(number, None)

    def cut(self) -> int:
        """Cut all that are still connected, and return how many that were."""
        count = 0
        while self._peers:
            number, peer = self._peers.popitem()
            with suppress(OSError), socket.socket(fileno=os.dup(number)) as duplicate:
                if duplicate.getpeername() == peer:
                    duplicate.shutdown(socket.SHUT_RDWR)
                    count += 1
        return count


def _file_of(connection: Any) -> int | None:  # noqa: ANN401 - likewise
    driver = getattr(connection, "driver_connection", connection)
    if hasattr(driver, "fileno"):  # psycopg, psycopg2
        return None if getattr(driver, "closed", False) else int(driver.fileno())
    transport = getattr(driver, "_transport", None)  # asyncpg
    connected = transport and transport.get_extra_info("socket")
    return int(connected.fileno()) if connected else None


def _peer(number: int) -> Any:  # noqa: ANN401 - an address of any family
    with suppress(OSError), socket.socket(fileno=os.dup(number)) as duplicate:
        return duplicate.getpeername() or None
    return None
