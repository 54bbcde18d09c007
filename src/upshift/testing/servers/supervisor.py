"""The process that owns one embedded server: `python -I -S supervisor.py`, a script that imports no Upshift.

It has to end the server and delete its files whatever becomes of the process that asked for it (the
caller). So it is no thread and no `atexit` hook of the caller but a process in a session of its own, which
a terminal's Ctrl-C does not reach; and being the server's parent, it learns of the server's own end at
once.

How it knows that the caller is gone:

- Its standard input is a pipe from the caller. One line comes in, the `Plan`; after it a byte, or the end
  of the file, means stop. That works at once, but a child that the caller forked holds the pipe open after
  the caller died.
- So five times a second it compares its parent's id with the one in the plan. When the caller dies, the
  kernel gives this process another parent, whoever inherited what and whichever thread started it, on Linux
  and macOS alike. (PR_SET_PDEATHSIG fires when the starting *thread* ends; a pidfd or a kqueue would save
  five cheap system calls a second at the price of one code path for each system.)

An orderly stop leaves by the same way as the caller's death, so every test that ends well has tested it.

Standard output carries one line of JSON: `{"pid": …}` when the server is ready, or `{"failure": …}`, which
ends with the last lines of the server's log.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TypedDict

LOOK_INTERVAL_S = 0.2
READY_INTERVAL_S = 0.01
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 3.0
RELEASE_TIMEOUT_S = 3.0
PR_SET_CHILD_SUBREAPER = 36
LOG_TAIL_BYTES = 4_000
LOG_TAIL_LINES = 12


class Plan(TypedDict):
    """What the caller asks for; all paths are absolute.

    Attributes:
        caller: process id of the caller.
        directory: the directory to make, run in and delete; nothing may be there yet.
        owner: user and group id to run the commands as; None for the caller's own.
        trees: directories to copy before the first command, from source to target.
        files: text files to write before the first command, by path.
        setup: commands to run one after the other before the server.
        server: the command of the server, which stays in the foreground.
        ready: a file, and the text that it contains once the server answers.
        stop_signal: the signal that ends the server without delay.
        after_kill: a command that releases what a server killed by SIGKILL leaves behind, or None.
    """

    caller: int
    directory: str
    owner: tuple[int, int] | None
    trees: dict[str, str]
    files: dict[str, str]
    setup: list[list[str]]
    server: list[str]
    ready: tuple[str, str]
    stop_signal: int
    after_kill: list[str] | None


class Stop(Exception):  # noqa: N818 - a request, not an error
    """The caller asked to stop, or is gone."""


class Failure(Exception):  # noqa: N818 - carries a message to the caller, which raises an error of its own
    """The server did not start."""


class Caller:
    """The process that asked for the server, as seen from this one."""

    def __init__(self) -> None:
        # Unbuffered, so that a byte after the plan stays in the pipe, where select() sees it.
        self._pipe = open(0, "rb", buffering=0)  # noqa: SIM115 - open for as long as this process lives
        self._pid = 0
        self._signalled = False
        self._woken, wake = os.pipe()
        os.set_blocking(self._woken, False)
        os.set_blocking(wake, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)  # does no more than wake select()
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)

    def _on_signal(self, _number: int, _frame: object) -> None:
        self._signalled = True

    def plan(self) -> Plan | None:
        """What it asks for; None when it was gone before it could ask."""
        line = self._pipe.readline()
        if not line.endswith(b"\n"):
            return None
        plan: Plan = json.loads(line)
        self._pid = plan["caller"]
        return plan

    def check(self, timeout_s: float) -> None:
        """Wait until a child ended or the time is over.

        Raises:
            Stop: the caller wants no server any more.
        """
        readable, _, _ = select.select([self._pipe.fileno(), self._woken], [], [], timeout_s)
        if self._woken in readable:
            os.read(self._woken, 4096)
        if self._signalled or self._pipe.fileno() in readable or os.getppid() != self._pid:
            raise Stop

    def wait(self, process: subprocess.Popen[bytes], deadline: float = math.inf) -> int | None:
        """The status with which the process ended; None when it still runs at the deadline.

        Raises:
            Stop: the caller wants no server any more.
        """
        while (status := process.poll()) is None and time.monotonic() < deadline:
            self.check(LOOK_INTERVAL_S)
        return status


def main() -> None:
    """Run the plan that comes in, and leave nothing behind."""
    caller = Caller()
    plan = caller.plan()
    if plan is None:
        return
    _adopt_orphans()
    directory = Path(plan["directory"])
    try:
        directory.mkdir(mode=0o700)
        try:
            # Opened before the directory may become another user's, who could put a link in the log's place.
            with (directory / "log").open("a+b", buffering=0) as log:
                _lay_out(plan)
                _run(caller, plan, log.fileno())
        finally:
            shutil.rmtree(directory, ignore_errors=True)
    except Stop:
        pass
    except Failure as failure:
        _tell(failure=str(failure))
    except OSError as error:
        _tell(failure=f"the server cannot be set up: {error}")


def _lay_out(plan: Plan) -> None:
    for source, target in plan["trees"].items():
        shutil.copytree(source, target)
    for path, text in plan["files"].items():
        Path(path).write_text(text, encoding="utf-8")
    if plan["owner"] is not None:
        directory = Path(plan["directory"])
        for entry in (*directory.rglob("*"), directory):
            os.chown(entry, *plan["owner"], follow_symlinks=False)


def _run(caller: Caller, plan: Plan, log: int) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    for command in plan["setup"]:
        process = _start(plan, command, log)
        try:
            status = caller.wait(process, deadline)
        finally:
            _end(process, signal.SIGTERM)
        if status != 0:
            raise Failure(_last_words(command, status, log))
    server = _start(plan, plan["server"], log)
    try:
        while not _is_ready(*plan["ready"]):
            status = server.poll()
            if status is not None or time.monotonic() > deadline:
                raise Failure(_last_words(plan["server"], status, log))
            caller.check(READY_INTERVAL_S)
        _tell(pid=server.pid)
        caller.wait(server)
    finally:
        _end(server, plan["stop_signal"])
        if server.returncode == -signal.SIGKILL and plan["after_kill"] is not None:
            _release(plan, plan["after_kill"], log)


def _start(plan: Plan, command: list[str], log: int) -> subprocess.Popen[bytes]:
    user, group = plan["owner"] or (None, None)
    return subprocess.Popen(  # noqa: S603 - the command comes from the caller, through a private pipe
        command,
        cwd=plan["directory"],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        umask=0o077,
        user=user,
        group=group,
        extra_groups=None if group is None else [],
    )


def _is_ready(path: str, text: str) -> bool:
    try:
        return text in Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False


def _end(process: subprocess.Popen[bytes], number: int) -> None:
    process.send_signal(number)  # none, where it has ended already
    process.send_signal(signal.SIGCONT)  # a process that somebody stopped hears no other signal
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    _end_orphans()


def _adopt_orphans() -> None:
    """From now on a child that outlives its parent below this process becomes this one's; on Linux only."""
    if sys.platform == "linux":
        with contextlib.suppress(ImportError):
            import ctypes

            ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)


def _end_orphans() -> None:
    """Kill what outlived its parent: a backend whose postmaster was killed finishes its statement first."""
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    with contextlib.suppress(OSError):  # not Linux, or a kernel without this file
        while orphans := [int(pid) for pid in children.read_text(encoding="ascii").split()]:
            for orphan in orphans:
                os.kill(orphan, signal.SIGKILL)
                os.waitpid(orphan, 0)


def _release(plan: Plan, command: list[str], log: int) -> None:
    """Run the command, and again while the killed server's own children are still about to end."""
    deadline = time.monotonic() + RELEASE_TIMEOUT_S
    while (left := deadline - time.monotonic()) > 0:
        process = _start(plan, command, log)
        with contextlib.suppress(subprocess.TimeoutExpired):
            if process.wait(left) == 0:
                return
        _end(process, signal.SIGTERM)
        time.sleep(READY_INTERVAL_S)


def _last_words(command: list[str], status: int | None, log: int) -> str:
    how = f"was not ready after {START_TIMEOUT_S:.0f} s" if status is None else f"ended with status {status}"
    end = os.pread(log, LOG_TAIL_BYTES, max(0, os.fstat(log).st_size - LOG_TAIL_BYTES))
    tail = end.decode("utf-8", errors="replace").splitlines()[-LOG_TAIL_LINES:]
    return "\n    ".join([f"{Path(command[0]).name} {how}; the last lines of its log:", *tail])


def _tell(**message: object) -> None:
    with contextlib.suppress(OSError):  # the caller may be gone
        sys.stdout.write(json.dumps(message) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
