"""Keeps the application served, for the reader to look at, until Ctrl-C."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from upshift.errors import ServerUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

HOST = "127.0.0.1"
PORT = 8000
"""The port that is taken if it is free."""


def keep_serving(
    command: Callable[[int], Sequence[str]],
    variables: Mapping[str, str],
    on_ready: Callable[[str], None],
) -> None:
    """Run a server until Ctrl-C, which is a good end.

    Args:
        command: gives the server's command for a port of 127.0.0.1.
        variables: the server's environment beside that of this process.
        on_ready: told the server's URL once it answers.

    Raises:
        ServerUnavailableError: the server ended by itself.
    """
    port = _free_port()
    with subprocess.Popen(command(port), env={**os.environ, **variables}) as server:  # noqa: S603 - our own command
        try:
            while server.poll() is None and not _answers(port):
                time.sleep(0.05)
            if server.poll() is None:
                on_ready(f"http://{HOST}:{port}")
            status = server.wait()
        except KeyboardInterrupt:
            server.terminate()
            return
    raise ServerUnavailableError(f"the server ended by itself, with status {status}")


def _free_port() -> int:
    with suppress(OSError), socket.create_server((HOST, PORT)):
        return PORT
    with socket.create_server((HOST, 0)) as free:
        port: int = free.getsockname()[1]
        return port


def _answers(port: int) -> bool:
    with suppress(OSError), socket.create_connection((HOST, port), timeout=1.0):
        return True
    return False
