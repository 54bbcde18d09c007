"""Tokens in Redis or Valkey, for all processes that use one cache.

What it leans on, beside A1 to A5 of `upshift.cache.tokens`, and how:

The fence
    Every stamp holds one more token, the *fence*: a key that lives for a second unless a heartbeat of some
    process keeps it. Redis is another machine: it can be away while the database is not, and then writers
    commit unannounced. A writer that could not announce does not return from COMMIT before Redis has been
    told after all, or the fence must have ended, and with it every entry that there was.

    A new fence is *closed* for a second: nobody gets stamps under it. By then each process has noticed that
    Redis is back, and has announced again what it is about to commit. So a writer that found Redis away,
    and does not wait as the old fence is over, cannot meet an entry of the new one that is older than its
    commit: the last try that failed was less than that second ago, so no stamp had been given yet.

    Without the fence, or where writers do not wait for its end, or where a new one is not closed, there is
    a schedule in which a stale value is served; `tests/unit/cache/tokens/outage_model.py` finds each.

A4, that Redis keeps what it acknowledged
    It does not always. It is made to forget all or nothing, so that forgetting is noticed:

    - *Eviction.* All intents are one key, and it names the fence that it belongs to. Where either is gone,
      no stamps are given until a heartbeat has made a new fence. A tag's token that is evicted makes
      misses. `noeviction` and the `volatile-*` policies but `volatile-ttl` are best: that one evicts the
      fence first.
    - *Out of memory.* A server that is full and evicts nothing takes announcements all the same, as they
      begin with a deletion (`scripts`). It takes no new tokens or entries, and what it has is served.
    - *A restart that lost something*, or a *failover* to a replica that never had it: the server names its
      run when a connection is made, and nothing is read on a connection before a run that is not the
      fence's has made a new one. Then all processes announce again what they are about to commit. So
      nobody needs WAIT. What is lost for good are intents of processes that have been killed as well.
    - *Two masters at once* in a network that is cut: the old one must be made to stop, by
      `min-replicas-to-write 1`. Then it refuses heartbeats, and its fence ends.

A5 and clocks
    Intents and the fence end by the clock of Redis. If it jumps ahead, they end early: the fence ends with
    them, and is renewed as above. If it goes back, a heartbeat notices and renews it. An intent that ended
    before its transaction is over is found missing when it is settled, before COMMIT returns, and then the
    token that came meanwhile ends. What a process decides by itself, it decides by a clock that never goes
    back, with a margin.

The limit
    A process that cannot reach Redis while others can is alone in that: it takes its trouble for
    everybody's. After a second its commits return, and what others keep may be older, until it reaches
    Redis again. It tells then, first of all, what it has written. A Redis that comes and goes faster than a
    process tries is the same to it. `unreachable="refuse"` is for whom that is too little: nothing is
    committed then that could not be announced.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Literal

from upshift.cache.redis import scripts
from upshift.cache.redis.heart import new_token
from upshift.cache.redis.wire import Unreachable
from upshift.errors import CacheUnreachableError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from upshift.cache.redis.owed import Writing
    from upshift.cache.redis.remote import Remote, Steps
    from upshift.cache.redis.wire import Command

logger = logging.getLogger("upshift.cache")

Item = tuple[str, bytes, bytes]
"""A tag, the fence, and the tag's token."""

Stamp = tuple[Item, ...]


class RedisTokens:
    """A carrier for all processes that use one Redis.

    The operations of `Carrier` may be called from threads, and from functions that SQLAlchemy's asyncio
    drivers call; in coroutines, those are to be used that end in `_async`.

    Args:
        remote: the Redis.
        unreachable: what a writer does that cannot announce: "wait", as told above, or "refuse".

    Attributes:
        faults: transactions that returned though nobody could be told, nor the fence was surely over.
    """

    def __init__(self, remote: Remote, unreachable: Literal["wait", "refuse"] = "wait") -> None:
        self.faults = 0
        self._remote = remote
        self._refuses = unreachable == "refuse"

    def stamp(self, tags: Iterable[str]) -> Stamp | None:
        """Return the tokens of tags; None where one is gone, or Redis is away."""
        return whole(self._remote.finish(self.stamp_steps(tuple(tags))))

    def stamps(self, tags: Iterable[str]) -> dict[str, Item | None]:
        """Return the tokens of tags, each for itself."""
        return self._remote.finish(self.stamp_steps(tuple(tags)))

    async def stamps_async(self, tags: Iterable[str]) -> dict[str, Item | None]:
        """Return the tokens of tags, each for itself."""
        return await self._remote.finish_async(self.stamp_steps(tuple(tags)))

    def holds(self, stamp: Stamp) -> bool:
        """Whether every tag has the very token of a stamp still; False where Redis is away."""
        return self._remote.finish(self.holds_steps(stamp))

    async def holds_async(self, stamp: Stamp) -> bool:
        """Whether every tag has the very token of a stamp still; False where Redis is away."""
        return await self._remote.finish_async(self.holds_steps(stamp))

    def announce(self, tags: Iterable[str], transaction: str) -> None:
        """Take the tokens of tags away.

        Raises:
            CacheUnreachableError: it could not be done, and such a transaction is to be refused.
        """
        self._remote.finish(self._announce_steps(tuple(tags), transaction))

    async def announce_async(self, tags: Iterable[str], transaction: str) -> None:
        """Take the tokens of tags away; see `announce`."""
        await self._remote.finish_async(self._announce_steps(tuple(tags), transaction))

    def settle(self, tags: Iterable[str], transaction: str) -> None:
        """Let tags have new tokens; returns when nothing older than the transaction can be served."""
        self._remote.finish(self._settle_steps(tuple(tags), transaction))

    async def settle_async(self, tags: Iterable[str], transaction: str) -> None:
        """Let tags have new tokens; see `settle`."""
        await self._remote.finish_async(self._settle_steps(tuple(tags), transaction))

    def stamp_command(self, tags: Sequence[str]) -> Command:
        """Return the command that reads the tokens of tags, which `read_stamps` understands."""
        return scripts.stamp(self._remote.keys, tags, new_token(), int(self._remote.timing.token * 1000))

    @staticmethod
    def read_stamps(tags: Sequence[str], answer: Sequence[Any]) -> dict[str, Item | None]:
        """Return the tokens of tags from the answer to a `stamp_command`."""
        if not answer:  # the fence is closed, or gone
            return dict.fromkeys(tags)
        fence, *tokens = answer
        return {
            tag: None if token is None else (tag, fence, token)
            for tag, token in zip(tags, tokens, strict=True)
        }

    def stamp_steps(self, tags: tuple[str, ...]) -> Steps[dict[str, Item | None]]:
        """Read the tokens of tags."""
        if not tags:
            return {}
        try:
            (answer,) = yield [self.stamp_command(tags)]
        except Unreachable:
            return dict.fromkeys(tags)
        return self.read_stamps(tags, answer)

    def holds_steps(self, stamp: Stamp) -> Steps[bool]:
        """Compare the tokens of a stamp."""
        try:
            (values,) = yield [self.holds_command(stamp)]
        except Unreachable:
            return False
        return is_current(stamp, values)

    def holds_command(self, stamp: Stamp) -> Command:
        """Return the command that reads what `is_current` compares."""
        return self._remote.keys.look([tag for tag, _, _ in stamp])

    def _announce_steps(self, tags: tuple[str, ...], transaction: str) -> Steps[None]:
        remote = self._remote
        writing = remote.owed.begin(transaction, tags)
        try:
            yield [scripts.announce(remote.keys, tags, transaction, int(remote.timing.intent * 1000))]
        except Unreachable as error:
            writing.has_failed = True
            if self._refuses:
                writing.is_over = True  # it may have arrived all the same
                raise CacheUnreachableError(
                    f"nothing was committed, as the cache's Redis could not be told of it: {error}"
                ) from error
        except BaseException:
            writing.is_over = True  # it will not commit
            raise
        else:
            writing.is_announced = True

    def _settle_steps(self, tags: tuple[str, ...], transaction: str) -> Steps[None]:
        remote = self._remote
        writing = remote.owed.get(transaction)
        try:
            yield [scripts.settle(remote.keys, tags, transaction, int(remote.timing.intent * 1000))]
        except Unreachable:
            if writing is None or writing.is_announced:
                if writing is not None:
                    writing.is_over = True  # its intent speaks for it until it can be told
                return
            writing.is_over = True
            yield from self._wait_steps(writing)
        except BaseException:
            if writing is not None:
                writing.is_over = True
            raise
        else:
            if writing is not None:
                remote.owed.strike(writing)

    def _wait_steps(self, writing: Writing) -> Steps[None]:
        remote = self._remote
        if remote.circuit.is_fence_over():
            remote.owed.miss(writing)
            return
        remote.wake.set()
        try:
            yield writing.told
        except TimeoutError:
            remote.owed.miss(writing)
            self.faults += 1
            if self.faults == 1:
                logger.warning("a commit returned before the cache's Redis could be told of it")


def whole(stamps: Mapping[str, Item | None]) -> Stamp | None:
    """Return a stamp of all tags together; None where one is gone."""
    items = [item for item in stamps.values() if item is not None]
    return tuple(items) if len(items) == len(stamps) else None


def is_current(stamp: Stamp, values: Sequence[bytes | None]) -> bool:
    """Whether the fence and the tokens that were read are those of a stamp.

    Args:
        stamp: the stamp.
        values: the fence, and the token of each of its tags.
    """
    fence, *tokens = values
    return tokens == [token for _, fence_then, token in stamp if fence_then == fence]
