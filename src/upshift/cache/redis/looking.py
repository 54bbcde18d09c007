"""Looks at a cache in Redis from outside: at what it keeps, and at the server.

No heartbeat is begun, so a cache that nobody uses is left as it is found, but for what `delete` drops. Keys
are found by SCAN, some at a time; of an entry no more is read than its head, whatever its size.
"""

from __future__ import annotations

from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from upshift.cache.redis.entries import Header, pattern_of, unpacked
from upshift.cache.redis.links import SyncLink
from upshift.cache.redis.scripts import Keys
from upshift.cache.redis.servers import finder_of
from upshift.cache.redis.tier import _without_wildcards
from upshift.cache.redis.wire import Command, Unreachable, checked, greeting, run_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SECONDS = 2.0
"""How long to connect may take, and then each answer."""

BATCH = 500
"""Keys that are looked for at a time."""

HEAD_BYTES = 64 * 2**10
"""Bytes of an entry in which its head is looked for."""


class Kept(NamedTuple):
    """An entry in Redis.

    Attributes:
        name: its name, as people write it, and what tells it from others of that name.
        bytes: what it takes.
        seconds_left: until Redis drops it.
        header: what is known of it beside its value; None where that cannot be read.
        holds: whether it would be served: nothing that it depends on has been written since.
    """

    name: str
    bytes: int
    seconds_left: float
    header: Header | None
    holds: bool


class Looker:
    """One cache in Redis, to be looked at.

    Args:
        link: a connection to the server that has it.
        keys: the cache's.
        server: the server's host and port, or its socket.
    """

    def __init__(self, link: SyncLink, keys: Keys, server: str) -> None:
        self.server = server
        self.keys = keys
        self._link = link
        self._prefix = keys.prefix + b"e:"

    def ask(self, *commands: tuple[bytes | str | int, ...]) -> list[Any]:
        """Return the answers to commands.

        Raises:
            Unreachable: they have not come, or one is an error.
        """
        return [checked(reply) for reply in self.replies(*commands)]

    def replies(self, *commands: tuple[bytes | str | int, ...]) -> list[Any]:
        """Return the answers to commands, errors among them.

        Raises:
            Unreachable: they have not come.
        """
        return self._link.ask([Command(each) for each in commands])

    def entries(self, pattern: str = "*") -> Iterator[Kept]:
        """Yield the entries whose names match a pattern, each once: see `Cache.delete_matching`."""
        seen: set[bytes] = set()
        for found in self._found(pattern):
            new = [key for key in dict.fromkeys(found) if key not in seen]
            seen.update(new)
            yield from self._kept(new)

    def count(self, pattern: str) -> int:
        """Return how many entries have names that match a pattern, about: SCAN may tell of one twice."""
        return sum(map(len, self._found(pattern)))

    def delete(self, pattern: str) -> int:
        """Delete the entries whose names match a pattern; return how many there were."""
        return sum(self.ask(("UNLINK", *found))[0] for found in self._found(pattern) if found)

    def entry(self, name: str) -> Kept | None:
        """Return the entry of a name as `Kept` has it, or without what follows the bar; None without one."""
        exact = name.encode("utf-8", "surrogatepass")
        found = list(self._kept([self._prefix + exact])) if b"|" in exact else []
        if found:
            return found[0]
        for each in self.entries(_literally(name)):
            if each.name.rpartition("|")[0] == name.replace("|", ":"):
                return each
        return None

    def payload(self, kept: Kept) -> bytes:
        """Return an entry's value as bytes; empty where it is gone."""
        (data,) = self.ask(("GET", self._prefix + kept.name.encode("utf-8", "surrogateescape")))
        entry = unpacked(data)
        return b"" if entry is None else entry[1]

    def _found(self, pattern: str) -> Iterator[list[bytes]]:
        match = _without_wildcards(self._prefix) + pattern_of(pattern)
        cursor: bytes = b"0"
        while True:
            ((cursor, found),) = self.ask(("SCAN", cursor, "MATCH", match, "COUNT", BATCH))
            yield found
            if cursor == b"0":
                return

    def _kept(self, keys: Sequence[bytes]) -> Iterator[Kept]:
        if not keys:
            return
        asked: list[tuple[bytes | str | int, ...]] = []
        for key in keys:
            asked += [("STRLEN", key), ("PTTL", key), ("GETRANGE", key, 0, HEAD_BYTES - 1)]
        replies = self.replies(*asked)
        heads = [
            (key, *replies[3 * at : 3 * at + 3])
            for at, key in enumerate(keys)
            # What has another type is none of ours; what has gone is empty.
            if not _is_of_another_type(replies[3 * at]) and checked(replies[3 * at])
        ]
        headers = [_header(head) for *_, head in heads]
        tokens: list[tuple[bytes | str | int, ...]] = [
            ("MGET", self.keys.fence, *self.keys.tokens(each.tags)) for each in headers if each
        ]
        current = iter(self.ask(*tokens) if tokens else [])
        for (key, size, left, _), header in zip(heads, headers, strict=True):
            holds = False
            if header is not None:
                holds = next(current) == [header.fence, *header.tokens]
            name = key[len(self._prefix) :].decode("utf-8", "surrogateescape")
            yield Kept(name, size, max(left, 0) / 1000, header, holds)


@contextmanager
def looking_at(where: str, name: str) -> Iterator[Looker]:
    """Look at a cache for the length of a `with` block.

    Args:
        where: the URL of its Redis.
        name: the cache's name there.

    Raises:
        SettingsError: the URL is none.
        Unreachable: the server does not answer, or does not let one in.
    """
    keys = Keys(name)
    server = finder_of(where, keys.fence).find(SECONDS)
    with closing(SyncLink(server, SECONDS)) as link:
        try:
            run_of(link.ask(greeting(server)))
        except Unreachable as error:
            raise Unreachable(f"{server}: {error}") from error
        yield Looker(link, keys, str(server))


def _is_of_another_type(reply: object) -> bool:
    return isinstance(reply, Exception) and str(reply).startswith("WRONGTYPE")


def _header(head: object) -> Header | None:
    entry = unpacked(head)
    return None if entry is None else entry[0]


def _literally(name: str) -> str:
    """Return a pattern that only a name itself matches."""
    return "".join(f"[{each}]" if each in "*?[" else each for each in name)
