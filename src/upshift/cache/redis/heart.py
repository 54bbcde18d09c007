"""The heartbeat of a process: keeps the fence alive, and tells what is owed when Redis comes back.

One thread for each cache. What it asks is what a probe asks: while Redis is away it tries again and again,
less often as time goes by, and no request pays for that. The circuit is closed only after everything that
the process owes has been told.
"""

from __future__ import annotations

import logging
import os
from random import uniform
from threading import Event, Thread
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

from upshift.cache.redis import scripts
from upshift.cache.redis.wire import Command, Unreachable

if TYPE_CHECKING:
    from upshift.cache.redis.circuit import Circuit
    from upshift.cache.redis.links import SyncLinks
    from upshift.cache.redis.owed import Owed, Writing

logger = logging.getLogger("upshift.cache")


class Timing(NamedTuple):
    """How long things take and last, in seconds.

    Attributes:
        answer: how long an answer may take that a call waits for.
        patience: how long one may take that only the heartbeat waits for.
        fence: how long a fence lives without heartbeats.
        closed: how long nobody may stamp under a new fence; longer than a process takes to notice that Redis
            is back, from one try to the end of the next, and to tell what it is about to commit.
        beat: from one heartbeat to the next.
        first_probe: from a failure to the next try.
        last_probe: the longest that a try waits for the one before; each waits twice as long until then.
        intent: how long an intent lasts that nobody settles.
        claim: how long a claim lasts whose owner has died.
        token: how long a token is kept that nobody asks for.
    """

    answer: float = 0.04
    patience: float = 0.2
    fence: float = 1.0
    closed: float = 1.0
    beat: float = 0.25
    first_probe: float = 0.05
    last_probe: float = 0.4
    intent: float = 60.0
    claim: float = 3.0
    token: float = 86_400.0


def beat_command(keys: scripts.Keys, timing: Timing, run: str = "") -> Command:
    """Return the command of a heartbeat, to the run of a server where that is known."""
    return scripts.beat(keys, new_token(), _ms(timing.fence), _ms(timing.closed), run)


class Heart:
    """The heartbeat of one process.

    Args:
        links: connections of its own to Redis.
        keys: the cache's.
        timing: when.
        circuit: is closed by it, and opened.
        owed: what there is to tell.
        wake: is set to have it beat at once.

    Attributes:
        fence: the fence as it was last heard of.
        claims: keys of the claims that loads of this process hold, which it keeps alive.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - one call site
        self,
        links: SyncLinks,
        keys: scripts.Keys,
        timing: Timing,
        circuit: Circuit,
        owed: Owed,
        wake: Event,
    ) -> None:
        self.fence = b""
        self.claims: set[bytes] = set()
        self._links = links
        self._keys = keys
        self._timing = timing
        self._circuit = circuit
        self._owed = owed
        self._wake = wake
        self._let_go: list[tuple[bytes, str]] = []
        self._failures = 0
        self._is_away = False
        self._has_stopped = False

    def start(self) -> None:
        """Begin to beat, in a thread that does not keep the process alive."""
        Thread(target=self._run, name="upshift-cache-heartbeat", daemon=True).start()

    def stop(self) -> None:
        """End, soon."""
        self._has_stopped = True
        self._wake.set()

    def let_go(self, claim: bytes, owner: str) -> None:
        """Give a claim up with the next beat, which comes at once."""
        self.claims.discard(claim)
        self._let_go.append((claim, owner))
        self._wake.set()

    def beat(self) -> float:
        """Beat once, and return the seconds until the next time."""
        began = monotonic()
        try:
            self._tell()
        except Unreachable as error:
            self._circuit.failed(began, str(error))
            if self._circuit.is_open and not self._is_away:
                self._is_away = True
                logger.warning("the cache's Redis is away, and functions run uncached: %s", error)
            self._release()
            seconds = min(self._timing.first_probe * (1 << min(self._failures, 16)), self._timing.last_probe)
            self._failures += 1
            return seconds * uniform(0.5, 1)  # noqa: S311 - no secret
        self._circuit.beaten(began)
        if self._is_away:
            self._is_away = False
            logger.warning("the cache's Redis is back")
        self._failures = 0
        return self._timing.beat * uniform(0.8, 1)  # noqa: S311 - no secret

    def _run(self) -> None:
        while not self._has_stopped:
            try:
                seconds = self.beat()
            except Exception:  # a fault of ours must not end the heartbeat: nothing would be served any more
                logger.exception("a heartbeat of the cache failed")
                seconds = self._timing.beat
            self._wake.wait(seconds)
            self._wake.clear()
        self._links.close()  # the last beat has put its own back

    def _tell(self) -> None:
        beat = beat_command(self._keys, self._timing)
        missed, missed_all = self._owed.take_missed()
        released, self._let_go = self._let_go, []  # where that fails, they end by themselves
        try:
            fence = self._links.ask([Command(("DEL", self._keys.fence)), beat] if missed_all else [beat])[-1]
            commands = [Command(("DEL", *self._keys.tokens(missed)))] if missed else []
            over, begun = [], []
            for writing in self._owed.all():
                if writing.is_over:
                    over.append(writing)
                elif fence != self.fence or writing.has_failed:
                    begun.append(writing)
            commands += [self.settle_command(each) for each in over]
            commands += [self._announce_command(each) for each in begun]
            commands += [scripts.release(claim, owner) for claim, owner in released]
            commands += [
                Command(("PEXPIRE", claim, int(self._timing.claim * 1000))) for claim in list(self.claims)
            ]
            if commands:
                self._links.ask(commands)
        except Unreachable:
            self._owed.put_back(missed, missed_all=missed_all)
            raise
        self.fence = fence
        for writing in over:
            self._owed.strike(writing)
        for writing in begun:
            writing.is_announced, writing.has_failed = True, False
        # Those that were settled while they were announced again would leave intents behind.
        late = [each for each in begun if self._owed.get(each.transaction) is not each]
        if late:
            self._links.ask([self.settle_command(each) for each in late])

    def _release(self) -> None:
        """Let transactions return that cannot tell Redis, once nothing that is older can be served."""
        for writing in self._owed.all():
            if writing.is_over and not writing.is_announced and self._circuit.is_fence_over():
                self._owed.miss(writing)

    def settle_command(self, writing: Writing) -> Command:
        """Return the command that settles a transaction."""
        return scripts.settle(self._keys, writing.tags, writing.transaction, _ms(self._timing.intent))

    def _announce_command(self, writing: Writing) -> Command:
        left = max(_ms(writing.ends - monotonic()), 1)
        return scripts.announce(self._keys, writing.tags, writing.transaction, left)


def new_token() -> bytes:
    """Return what never was before."""
    return os.urandom(12)


def _ms(seconds: float) -> int:
    return int(seconds * 1000)
