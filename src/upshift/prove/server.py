"""One variant of a server command, and one fresh process of it.

Every sample of a comparison runs in a process that `serve` starts and stops: on a free loopback port, with
its output kept for error messages, and on a leash (`leash.py`) that ends it with everything it started,
however this process ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import socket
import sys
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from upshift.errors import ProofError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine, Mapping

T = TypeVar("T")

HOST = "127.0.0.1"
PORT = "{port}"
OUTPUT_BYTES = 16_384
"""How much of the end of a server's output is kept."""
OUTPUT_LINES = 20
"""How many of its last lines an error message shows."""
POLL_SECONDS = 0.02
"""Pause between two attempts to reach a server that is starting."""
LAST_WORDS_SECONDS = 0.5
"""How long a failing server's exit status and output are waited for."""
LEASH_SECONDS = 5.0
"""What the leash may take beyond the server's grace before it is killed itself."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One variant of a server command.

    Attributes:
        name: how reports call it.
        argv: the command; `{port}` in any argument stands for the port to listen on, at 127.0.0.1.
        env: variables set beside those of this process.
        cwd: the folder to run in; None for this process's.

    Raises:
        ProofError: the command is empty, or `{port}` stands nowhere in it.

    Example:
        >>> Variant("head", ("uvicorn", "shop.main:app", "--port={port}")).command(8080)
        ('uvicorn', 'shop.main:app', '--port=8080')
    """

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: Path | None = None

    def __post_init__(self) -> None:
        if not self.argv:
            raise ProofError(f"the {self.name} command is empty: give the command that starts the server")
        if not any(PORT in argument for argument in self.argv):
            raise ProofError(
                f"the {self.name} command has no {PORT}: {self}\n"
                f"Upshift starts every server on a free port; write {PORT} where the port belongs, "
                f"as in: uvicorn shop.main:app --port {PORT}"
            )

    @classmethod
    def parse(cls, name: str, command: str) -> Variant:
        """Read a variant from one line, split as a POSIX shell splits words; no shell runs it.

        Raises:
            ProofError: the line cannot be split, is empty, or lacks `{port}`.

        Example:
            >>> Variant.parse("base", "uvicorn 'shop.main:app' --port {port}").argv
            ('uvicorn', 'shop.main:app', '--port', '{port}')
        """
        if command.startswith("git:"):
            raise ProofError(
                f"{command}: variants from git are not there yet; check the revision out beside this one "
                f"(git worktree add ../{name} REVISION) and give the command that starts it there"
            )
        try:
            return cls(name, tuple(shlex.split(command)))
        except ValueError as error:
            raise ProofError(f"the {name} command cannot be read ({error}): {command}") from None

    def __str__(self) -> str:
        return shlex.join(self.argv)

    def command(self, port: int) -> tuple[str, ...]:
        """The command for a port."""
        return tuple(argument.replace(PORT, str(port)) for argument in self.argv)


@dataclass(frozen=True, slots=True)
class Server:
    """A variant that runs.

    Attributes:
        variant: what was started.
        url: where it listens, without a trailing slash.
        pid: the root of its process tree.
    """

    variant: Variant
    url: str
    pid: int
    _process: asyncio.subprocess.Process
    _output: _Tail

    async def alive_during(self, work: Coroutine[object, object, T]) -> T:
        """Await work against this server, but give up as soon as the server ends.

        Raises:
            ProofError: the server ended before the work did.
        """
        working = asyncio.ensure_future(work)
        ended = asyncio.ensure_future(self._process.wait())
        try:
            await asyncio.wait({working, ended}, return_when=asyncio.FIRST_COMPLETED)
            if ended.done():
                raise await self.failure("ended by itself")
            return working.result()
        finally:
            # Nothing of the work may outlive the server it works against.
            for task in (working, ended):
                task.cancel()
            await asyncio.gather(working, ended, return_exceptions=True)

    async def failure(self, what: str) -> ProofError:
        """An error that says what this server did, how it ended if it did, and the last lines it printed."""
        # A server that fails is often one that is about to end, with the reason still on its way here.
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._process.wait(), LAST_WORDS_SECONDS)
            await asyncio.wait_for(self._output.complete.wait(), LAST_WORDS_SECONDS)
        status = self._process.returncode
        ended = "" if status is None else f" (exit status {status})"
        lines = "\n".join(f"    {line}" for line in self._output.lines()) or "    (nothing)"
        return ProofError(f"{self.variant.name} {what}{ended}: {self.variant}\nits last output:\n{lines}")


@contextlib.asynccontextmanager
async def serve(
    variant: Variant,
    *,
    ready_path: str | None = None,
    start_seconds: float = 30.0,
    grace_seconds: float = 5.0,
) -> AsyncIterator[Server]:
    """Start a variant in a fresh process, and stop it when the block is left, whatever the reason.

    Args:
        variant: what to start.
        ready_path: a path that answers GET with a status below 500 once the server is ready; None where
            accepting connections is enough.
        start_seconds: how long it may take to become ready.
        grace_seconds: how long it may take to end after SIGTERM, before SIGKILL.

    Raises:
        ProofError: it did not start, or did not become ready in time.
    """
    port = _free_port()
    leash = Path(__file__).with_name("leash.py")
    try:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", str(leash), str(grace_seconds), *variant.command(port)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={**os.environ, **variant.env},
            cwd=variant.cwd,
            start_new_session=True,  # Ctrl-C is for this process alone, which stops the server in order
        )
    except OSError as error:
        raise ProofError(f"{variant.name} cannot be started in {variant.cwd}: {error}") from error
    output = _Tail()
    listening = asyncio.create_task(output.follow(process))
    server = Server(variant, f"http://{HOST}:{port}", process.pid, process, output)
    try:
        await server.alive_during(_until_ready(server, port, ready_path, start_seconds))
        yield server
    finally:
        await _stop(process, grace_seconds)
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)


class _Tail:
    """The end of a process's output."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self.complete = asyncio.Event()

    async def follow(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        while chunk := await process.stdout.read(OUTPUT_BYTES):
            self._bytes += chunk
            del self._bytes[:-OUTPUT_BYTES]
        self.complete.set()

    def lines(self) -> list[str]:
        return self._bytes.decode(errors="replace").splitlines()[-OUTPUT_LINES:]


async def _until_ready(server: Server, port: int, path: str | None, seconds: float) -> None:
    asked = server.url if path is None else f"GET {server.url}{path}"
    try:
        async with asyncio.timeout(seconds):
            while True:
                if await _answers(port, path):
                    return
                await asyncio.sleep(POLL_SECONDS)
    except TimeoutError:
        raise await server.failure(f"was not ready within {seconds:g} s at {asked}") from None


async def _answers(port: int, path: str | None) -> bool:
    try:
        reader, writer = await asyncio.open_connection(HOST, port)
    except OSError:
        return False
    try:
        if path is None:
            return True
        writer.write(f"GET {path} HTTP/1.1\r\nHost: {HOST}:{port}\r\nConnection: close\r\n\r\n".encode())
        _version, status, *_reason = (await reader.readline()).split()
        return int(status) < HTTPStatus.INTERNAL_SERVER_ERROR
    except (OSError, ValueError):  # it hung up, or what it said is not HTTP
        return False
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def _stop(process: asyncio.subprocess.Process, grace_seconds: float) -> None:
    """Let go of the leash, which then ends the server."""
    assert process.stdin is not None
    process.stdin.close()
    try:
        await asyncio.wait_for(process.wait(), grace_seconds + LEASH_SECONDS)
    except TimeoutError:
        process.kill()
        await process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port
