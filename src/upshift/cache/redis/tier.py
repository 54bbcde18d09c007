"""Entries in Redis, and claims: who loads a value, so that of all processes one does.

A look-up is one MGET of the fence, the entry and the tokens that it is likely to depend on; another follows
only where it depends on more. A claim is a key with its owner's name. It lives as long as the owner's
heartbeat, so a killed owner's ends within seconds, and whoever waits for the entry claims it next.
"""

from __future__ import annotations

from random import uniform
from time import monotonic, time
from typing import TYPE_CHECKING

import msgspec

from upshift.cache.redis import scripts
from upshift.cache.redis.entries import Header, name_of_key, packed, pattern_of, unpacked
from upshift.cache.redis.heart import new_token
from upshift.cache.redis.wire import Command, Unreachable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from upshift.cache.memory import Key
    from upshift.cache.redis.remote import Remote, Steps
    from upshift.cache.redis.tokens import Item, RedisTokens, Stamp

DAY_MS = 86_400_000
"""How long an entry stays at most, so that what nobody asks for goes away whatever the server evicts."""

FIRST_WAIT, LAST_WAIT = 0.004, 0.1
"""Seconds between looks at whether another process has loaded what it has claimed: more each time."""

BATCH = 500
"""Keys that are looked at, and deleted, at a time."""


class Found(msgspec.Struct, frozen=True, gc=False):
    """An entry that holds.

    Attributes:
        header: what is known of it.
        stamp: what it was loaded with.
        payload: its value as bytes.
        asked: when Redis was asked, in seconds of the process's clock: then it held, or later.
    """

    header: Header
    stamp: Stamp
    payload: bytes
    asked: float


class Begun(msgspec.Struct, frozen=True):
    """What a load begins with.

    Attributes:
        stamps: the tokens of the tags that it is likely to need.
        claim: the name under which it has claimed its key; empty where that was not possible.
        found: what another process has loaded meanwhile, in its place.
    """

    stamps: dict[str, Item | None]
    claim: str
    found: Found | None = None


class Tier:
    """The entries of one cache in Redis.

    Args:
        remote: the Redis.
        tokens: reads the tokens there.

    Attributes:
        malformed: entries found that could not be read.
    """

    def __init__(self, remote: Remote, tokens: RedisTokens) -> None:
        self.malformed = 0
        self._remote = remote
        self._tokens = tokens
        self._entries, self._claims = remote.keys.prefix + b"e:", remote.keys.prefix + b"c:"

    def find_steps(self, key: Key, likely: tuple[str, ...]) -> Steps[Found | None]:
        """Look for an entry that holds.

        Args:
            key: its key.
            likely: the tags that it probably depends on.

        Raises:
            Unreachable: Redis is away.
        """
        asked = monotonic()
        (values,) = yield [self._find_command(key, likely)]
        return (yield from self._read_steps(values, likely, asked))

    def _find_command(self, key: Key, likely: tuple[str, ...]) -> Command:
        return self._remote.keys.look(likely, self._entry(key))

    def _read_steps(
        self, values: list[bytes | None], likely: tuple[str, ...], asked: float
    ) -> Steps[Found | None]:
        """Return the entry in the answer to a `_find_command`, if it holds."""
        entry = unpacked(values[1])
        if entry is None:
            self.malformed += values[1] is not None
            return None
        header, payload = entry
        current = values[2:]
        if header.tags != likely:
            tokens = dict(zip(likely, current, strict=True))
            missing = [tag for tag in header.tags if tag not in tokens]
            if missing:
                (more,) = yield [Command(("MGET", *self._remote.keys.tokens(missing)))]
                tokens.update(zip(missing, more, strict=True))
            current = [tokens[tag] for tag in header.tags]
        if header.fence != values[0] or current != header.tokens:
            return None
        return Found(header, header.stamp(), payload, asked)

    def begin_steps(self, key: Key, tags: Sequence[str], likely: tuple[str, ...]) -> Steps[Begun]:
        """Claim a load and read the tokens for it; or wait until who has claimed it has loaded.

        Args:
            key: the key.
            tags: the tags that the load probably needs.
            likely: those that the entry probably depends on.
        """
        remote, owner = self._remote, new_token().hex()
        claim = self._claim(key)
        claiming = scripts.claim(claim, owner, int(remote.timing.claim * 1000))
        wait = FIRST_WAIT
        try:
            while True:
                asked = monotonic()
                # Looked for after the claim: whoever had it may have filled and given it up just before.
                has_claimed, answer, values = yield [
                    claiming,
                    self._tokens.stamp_command(tags),
                    self._find_command(key, likely),
                ]
                try:
                    found = yield from self._read_steps(values, likely, asked)
                except BaseException:
                    if has_claimed == 1:
                        remote.heart.let_go(claim, owner)
                    raise
                if found is not None:
                    if has_claimed == 1:
                        yield from self.release_steps(key, owner)
                    return Begun({}, "", found)
                if has_claimed != 0:
                    remote.heart.claims.add(claim)
                    return Begun(self._tokens.read_stamps(tags, answer), owner)
                yield wait * uniform(0.5, 1)  # noqa: S311 - no secret
                wait = min(wait * 1.5, LAST_WAIT)
        except Unreachable:
            return Begun(dict.fromkeys(tags), "")

    def fill_steps(
        self, key: Key, stamp: Stamp, payload: bytes, seconds: float | None, owner: str
    ) -> Steps[bool]:
        """Keep an entry if it holds, give its claim up, and return whether it does.

        Args:
            key: its key.
            stamp: what it was loaded with.
            payload: its value as bytes.
            seconds: how long it may be served.
            owner: the name under which it is claimed; empty where it is not.
        """
        fence = stamp[0][1] if stamp else b""
        if any(item[1] != fence for item in stamp):
            yield from self.release_steps(key, owner)
            return False
        tokens = {tag: token for tag, _, token in stamp}
        header = Header(fence, tuple(tokens), list(tokens.values()), time(), seconds)
        lifetime = DAY_MS if seconds is None else max(min(int(seconds * 1000), DAY_MS), 1)
        data = packed(header, payload)
        command = scripts.fill(
            self._remote.keys, self._entry(key), self._claim(key), fence, tokens, data, lifetime, owner
        )
        self._remote.heart.claims.discard(self._claim(key))
        try:
            (held,) = yield [command]
        except Unreachable:
            return False
        return bool(held)

    def release_steps(self, key: Key, owner: str) -> Steps[None]:
        """Give a claim up without an entry."""
        if not owner:
            return
        claim = self._claim(key)
        self._remote.heart.claims.discard(claim)
        try:
            yield [scripts.release(claim, owner)]
        except Unreachable:
            return  # it ends by itself

    def let_go(self, key: Key, owner: str) -> None:
        """Have the heartbeat give a claim up, as its load was cancelled."""
        if owner:
            self._remote.heart.let_go(self._claim(key), owner)

    def delete_steps(self, key: Key) -> Steps[bool]:
        """Delete an entry; return whether there was one."""
        try:
            (count,) = yield [Command(("DEL", self._entry(key)))]
        except Unreachable:
            return False
        return bool(count)

    def delete_matching_steps(self, pattern: str) -> Steps[int]:
        """Delete the entries whose names match a pattern, some at a time; return how many there were."""
        match = _without_wildcards(self._entries) + pattern_of(pattern)
        count, cursor = 0, b"0"
        try:
            while True:
                ((cursor, found),) = yield [Command(("SCAN", cursor, "MATCH", match, "COUNT", BATCH))]
                if found:
                    (deleted,) = yield [Command(("UNLINK", *found))]
                    count += deleted
                if cursor == b"0":
                    return count
        except Unreachable:
            return count

    def _entry(self, key: Key) -> bytes:
        return self._entries + name_of_key(key)

    def _claim(self, key: Key) -> bytes:
        return self._claims + name_of_key(key)


def _without_wildcards(prefix: bytes) -> bytes:
    escaped = prefix
    for special in (b"\\", b"*", b"?", b"["):
        escaped = escaped.replace(special, b"\\" + special)
    return escaped
