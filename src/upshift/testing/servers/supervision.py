"""The caller's side of a supervised server: send the plan, read the answer, ask for the end."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, TypeVar

from upshift.errors import ServerUnavailableError
from upshift.testing.servers import supervisor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")

PORT_ATTEMPTS = 5
STOP_TIMEOUT_S = 20.0
MAX_BASE_LENGTH = 60
"""Bytes of a unix socket's path (103 on macOS), less those of `upshift-…/.s.PGSQL.5432` below the base."""


def new_directory(*, for_another_user: bool = False) -> Path:
    """A name for a server's directory, short enough for a unix socket in it. The supervisor makes it.

    Args:
        for_another_user: one who could not enter a private TMPDIR will have to reach it.
    """
    base = Path(tempfile.gettempdir()).resolve()
    if len(os.fsencode(base)) > MAX_BASE_LENGTH or (for_another_user and not is_open_to_all(base)):
        base = Path("/tmp").resolve()  # noqa: S108 - the name below it is random, and made with mode 0700
    return base / f"upshift-{secrets.token_hex(6)}"


def is_open_to_all(path: Path) -> bool:
    """Whether every user can enter or execute it; what lies below root's home directory, nobody else can."""
    return all(step.stat().st_mode & stat.S_IXOTH for step in (path, *path.parents))


def server_environment() -> dict[str, str]:
    """The caller's, less what would change the servers: PG* variables, the locale and the time zone."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_", "LANG"))}
    return kept | {"LC_ALL": "C", "TZ": "UTC"}


def free_port() -> int:
    """A port of 127.0.0.1 that nobody uses now; somebody may before the server does."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def retrying_taken_ports(start: Callable[[], T]) -> T:
    """What `start` returns, called again where its port was taken between its choice and the server's bind.

    Raises:
        ServerUnavailableError: the server did not start for another reason, or the port was taken each time.
    """
    for _ in range(PORT_ATTEMPTS - 1):
        try:
            return start()
        except ServerUnavailableError as error:
            if "Address already in use" not in str(error):
                raise
    return start()


@contextlib.contextmanager
def supervised(plan: supervisor.Plan) -> Iterator[int]:
    """Run the plan's server, ready for connections, for as long as the block lasts; yields its process id.

    Raises:
        ServerUnavailableError: it did not start; the message ends with the last lines of its log.
    """
    process = subprocess.Popen(  # noqa: S603 - a script of our own
        [sys.executable, "-I", "-S", supervisor.__file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd="/",
        env=server_environment(),
        start_new_session=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    pid = None
    try:
        with contextlib.suppress(BrokenPipeError):  # it died; the answer says why
            process.stdin.write(json.dumps(plan).encode() + b"\n")
            process.stdin.flush()
        pid = _server_pid(process.stdout)
        yield pid
    finally:
        # A forked copy of the caller may leave the block as well; the server is not its own to stop.
        if os.getpid() == plan["caller"]:
            _stop(process)
            if process.returncode != 0:
                _clean_up(plan, pid)


def _server_pid(stream: IO[bytes]) -> int:
    answer = stream.readline()
    try:
        message = json.loads(answer)
    except ValueError:
        words = (answer + stream.read()).decode(errors="replace").strip()
        raise ServerUnavailableError(f"the server's supervisor died before it started one. {words}") from None
    if "failure" in message:
        raise ServerUnavailableError(message["failure"])
    return int(message["pid"])


def _stop(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    with contextlib.suppress(BrokenPipeError):  # it has ended already, as the server did
        process.stdin.write(b"\n")
        process.stdin.close()
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    process.stdout.close()


def _clean_up(plan: supervisor.Plan, pid: int | None) -> None:
    """Do the work of a supervisor that somebody killed."""
    deadline = time.monotonic() + supervisor.STOP_TIMEOUT_S
    with contextlib.suppress(ProcessLookupError):
        while pid is not None and time.monotonic() < deadline:
            os.kill(pid, plan["stop_signal"])
            time.sleep(supervisor.READY_INTERVAL_S)
    shutil.rmtree(plan["directory"], ignore_errors=True)
