"""A Valkey that can be stopped, killed and started again at its place."""

from __future__ import annotations

import ctypes
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from redis import Redis

from upshift.testing.servers.binaries import find_valkey
from upshift.testing.servers.supervision import free_port

START_SECONDS = 20


class Valkey:
    """A server of its own.

    Args:
        folder: where it works; its path must be short, as that of a socket in it is.

    Attributes:
        url: by the socket. A port is no place for a server that is started again: who asks for it meanwhile
            may be given that very port for the own end, and is connected with itself.
        tcp_url: by a port, for those who know no sockets.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = free_port()
        self._socket = folder / "valkey.sock"
        self.url = f"unix://{self._socket}"
        self.tcp_url = f"redis://127.0.0.1:{self._port}"
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Start, and return when it answers."""
        options = {
            "--bind": "127.0.0.1",
            "--port": str(self._port),
            "--unixsocket": self._socket,
            "--save": "",
            "--dir": self._folder,
        }
        self._process = subprocess.Popen(
            [find_valkey(), *(part for option in options.items() for part in option)],
            stdout=subprocess.DEVNULL,
            preexec_fn=end_with_parent if sys.platform == "linux" else None,  # noqa: PLW1509 - no threads here
        )
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            assert time.monotonic() < deadline, "the Valkey does not start"
            time.sleep(0.02)

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """Have it hang."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def empty(self) -> None:
        with Redis.from_url(self.url) as client:
            client.flushall()

    def drop_connections(self) -> None:
        with Redis.from_url(self.url) as client:
            client.client_kill_filter(_type="normal", skipme=True)

    def _answers(self) -> bool:
        with suppress(Exception), Redis.from_url(self.url) as client:
            return bool(client.ping())
        return False


def end_with_parent() -> None:
    """Have the kernel kill this process when the one that started it dies."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


@contextmanager
def valkey(folder: Path) -> Iterator[Valkey]:
    server = Valkey(folder)
    try:
        yield server
    finally:
        server.go_on()
        server.kill()
