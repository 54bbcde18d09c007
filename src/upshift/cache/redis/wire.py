"""What is said to a Redis server, as bytes, and what its answers mean. No I/O is done here."""

from __future__ import annotations

from hashlib import sha1
from typing import TYPE_CHECKING, Any

from upshift.errors import MissingExtraError

try:
    from hiredis import ReplyError, pack_command
except ModuleNotFoundError as error:  # pragma: no cover - the extra is installed where tests run
    raise MissingExtraError("a cache in Redis", "redis") from error

if TYPE_CHECKING:
    from collections.abc import Sequence

    from upshift.cache.redis.servers import Server

Part = bytes | str | int


class Unreachable(Exception):  # noqa: N818 - a state of the world, which callers answer
    """Redis did not do what it was asked: no connection, no answer in time, or an error for an answer.

    Args:
        reason: what happened.
        is_elsewhere: whether another server is the one to ask now.
    """

    def __init__(self, reason: str, *, is_elsewhere: bool = False) -> None:
        super().__init__(reason)
        self.is_elsewhere = is_elsewhere


class Command:
    """One command.

    Args:
        parts: its name and arguments.
        script: where it calls a script by its digest, the script's text.
    """

    __slots__ = ("_parts", "_script")

    def __init__(self, parts: tuple[Part, ...], script: str = "") -> None:
        self._parts = parts
        self._script = script

    def packed(self) -> bytes:
        """Return the bytes to send."""
        return _pack(self._parts)

    def packed_whole(self) -> bytes:
        """Return the bytes to send to a server that does not know the script."""
        return _pack(("EVAL", self._script, *self._parts[2:]))


class Mget(Command):
    """A look at several keys, which is quick to pack.

    Args:
        keys: the keys, each as `bulk` has it.
    """

    __slots__ = ("_keys",)

    def __init__(self, keys: list[bytes]) -> None:
        self._keys = keys

    def packed(self) -> bytes:
        """Return the bytes to send."""
        return b"*%d\r\n$4\r\nMGET\r\n%b" % (len(self._keys) + 1, b"".join(self._keys))

    packed_whole = packed


def bulk(part: bytes) -> bytes:
    """Return a part of a command as it is sent.

    Example:
        >>> Mget([bulk(b"dish")]).packed() == Command(("MGET", b"dish")).packed()
        True
    """
    return b"$%d\r\n%b\r\n" % (len(part), part)


class Script:
    """A Lua script, called by its digest.

    Args:
        text: the script.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self._digest = sha1(text.encode(), usedforsecurity=False).hexdigest()

    def call(self, keys: Sequence[bytes], *arguments: Part) -> Command:
        """Return the command that runs it."""
        return Command(("EVALSHA", self._digest, len(keys), *keys, *arguments), self.text)


def is_unknown_script(reply: object) -> bool:
    """Whether an answer says that the server has forgotten the script, or never knew it."""
    return isinstance(reply, ReplyError) and str(reply).startswith("NOSCRIPT")


def checked(reply: Any) -> Any:
    """Return an answer.

    Raises:
        Unreachable: it is an error.
    """
    if isinstance(reply, ReplyError):
        text = str(reply)
        raise Unreachable(text, is_elsewhere=text.startswith(("MOVED", "READONLY", "ASK")))
    return reply


def greeting(server: Server) -> list[Command]:
    """Return the commands with which a connection begins; the last answer tells which server it is."""
    commands = []
    if server.protocol == 3:  # noqa: PLR2004 - the protocol's name is its number
        login = ("AUTH", server.username or "default", server.password) if server.password else ()
        commands.append(Command(("HELLO", "3", *login)))
    elif server.password:
        user = (server.username,) if server.username else ()
        commands.append(Command(("AUTH", *user, server.password)))
    if server.database:
        commands.append(Command(("SELECT", server.database)))
    commands.append(Command(("INFO", "server")))
    return commands


def run_of(replies: Sequence[Any]) -> str:
    """Return the name of the server's run from the answers to a greeting; empty where it may not be told.

    Raises:
        Unreachable: it refused the greeting.
    """
    for reply in replies[:-1]:
        checked(reply)
    told = replies[-1]
    text = told.decode("utf-8", "replace") if isinstance(told, bytes) else str(told)
    if isinstance(told, ReplyError):
        if not text.startswith("NOPERM"):
            checked(told)
        return ""
    _, _, rest = text.partition("run_id:")
    return rest.partition("\n")[0].strip()


def _pack(parts: tuple[Part, ...]) -> bytes:
    packed: bytes = pack_command(parts)  # type: ignore[arg-type] # its types know tuples of one part only
    return packed
