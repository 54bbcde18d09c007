"""Valkey for as long as a `with` block lasts."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, assert_never

from upshift.testing.servers.binaries import find_valkey
from upshift.testing.servers.supervision import free_port, new_directory, retrying_taken_ports, supervised

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from upshift.testing.servers.supervisor import Plan

IN_MEMORY = {"save": '""', "appendonly": "no"}
"""The data is deleted with the server, so none of it is written to disk."""


@dataclass(frozen=True, slots=True)
class ValkeyServer:
    """A running server.

    Attributes:
        pid: its process id.
        url: for `redis.Redis.from_url`: `unix:///…`, or `redis://:password@127.0.0.1:port/0`.
    """

    pid: int
    url: str


@contextlib.contextmanager
def valkey(
    *, listen: Literal["socket", "tcp"] = "socket", settings: Mapping[str, str] | None = None
) -> Iterator[ValkeyServer]:
    """An empty Valkey (or Redis) server, gone when the block ends.

    Args:
        listen: "socket" for a private unix socket, "tcp" for a free port of 127.0.0.1 and a random password.
        settings: configuration directives, which replace Valkey's defaults, but not where the server listens:
            `{"maxmemory": "16mb"}`.

    Raises:
        ServerUnavailableError: Valkey is not installed, or did not start; the message says why.
    """
    program = find_valkey()
    with contextlib.ExitStack() as stack:
        yield retrying_taken_ports(
            lambda: stack.enter_context(_started(program, listen, {**IN_MEMORY, **(settings or {})}))
        )


@contextlib.contextmanager
def _started(
    program: Path, listen: Literal["socket", "tcp"], settings: Mapping[str, str]
) -> Iterator[ValkeyServer]:
    directory = new_directory()
    if listen == "socket":
        socket = directory / "valkey.sock"
        url = f"unix://{socket}"
        address = {"port": "0", "unixsocket": str(socket), "unixsocketperm": "700"}
    elif listen == "tcp":
        port, password = free_port(), secrets.token_urlsafe(16)
        url = f"redis://:{password}@127.0.0.1:{port}/0"
        address = {"port": str(port), "bind": "127.0.0.1", "requirepass": password}
    else:
        assert_never(listen)
    # The log goes to standard output, where the supervisor reads that the server is ready.
    directives = {**settings, **address, "dir": str(directory), "logfile": '""', "loglevel": "notice"}
    # In a file, because everybody can read the arguments of a command, and the password is one of them.
    configuration = directory / "valkey.conf"
    plan: Plan = {
        "caller": os.getpid(),
        "directory": str(directory),
        "owner": None,
        "trees": {},
        "files": {str(configuration): "".join(f"{name} {value}\n" for name, value in directives.items())},
        "setup": [],
        "server": [str(program), str(configuration)],
        "ready": (f"{directory}/log", "Ready to accept connections"),
        "stop_signal": signal.SIGTERM,
        "after_kill": None,
    }
    with supervised(plan) as pid:
        yield ValkeyServer(pid, url)
