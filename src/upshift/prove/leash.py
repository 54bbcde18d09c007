"""Keeps one server on a leash: a script, run in a process of its own between Upshift and the server.

    python leash.py GRACE COMMAND…

It holds its standard input. When that closes, because the owner let go or because the owner died (by
SIGKILL, too), the server gets SIGTERM, and after GRACE seconds SIGKILL together with all of its process
group. When the server ends by itself, what is left of its group is killed and the leash ends with the
server's status, or with 128 + n if signal n ended it. It imports nothing but the standard library, so that
`python -I -S` starts it in milliseconds.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys

CANNOT_START = 127
OWNER = 0


def main(grace: float, command: list[str]) -> int:
    """Run the command until it ends or the owner lets go; return the status to exit with."""
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write)
    # Handlers that do nothing: signals sent to the leash must not part it from the server, and unlike
    # SIG_IGN a handler is not inherited by the server.
    for number in (signal.SIGCHLD, signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    try:
        server = subprocess.Popen(  # noqa: S603 - running the user's command is the purpose
            command, stdin=subprocess.DEVNULL, start_new_session=True
        )
    except OSError as error:
        sys.stderr.write(f"cannot run {command[0]}: {error.strerror}\n")
        return CANNOT_START
    let_go = False
    while not let_go and server.poll() is None:
        readable, _, _ = select.select([OWNER, wake_read], [], [])
        let_go = OWNER in readable
        if wake_read in readable:
            os.read(wake_read, 4096)
    if let_go:
        server.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(grace)
    with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS refuses for a group of zombies
        os.killpg(server.pid, signal.SIGKILL)
    status = server.wait()
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), sys.argv[2:]))
