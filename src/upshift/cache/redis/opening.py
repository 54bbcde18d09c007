"""What a `Cache` has of Redis."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from upshift.cache.codec import Plans
from upshift.cache.redis.functions import SharedCached
from upshift.cache.redis.remote import Remote
from upshift.cache.redis.shared import Shared
from upshift.cache.redis.tier import Tier
from upshift.cache.redis.tokens import RedisTokens
from upshift.cache.redis.values import SharedValues
from upshift.cache.responses import Responses
from upshift.cache.state import RedisState
from upshift.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from upshift.cache.functions import Store
    from upshift.cache.functions.options import Options
    from upshift.cache.redis.heart import Timing


class InRedis:
    """What a cache shares with other processes; it tells Redis from now on that this process is there.

    Args:
        where: a URL, or a client of redis-py.
        name: the cache's name there.
        lease: seconds for which an entry in memory is served after a look at its tokens.
        timing: how long things may take.
        unreachable: what a writer does that cannot announce.

    Attributes:
        tokens: the carrier.

    Raises:
        SettingsError: one of them is none.
    """

    def __init__(
        self,
        where: Any,
        *,
        name: str,
        lease: float = 0.0,
        timing: Timing | None = None,
        unreachable: Literal["wait", "refuse"] = "wait",
    ) -> None:
        if not name or "}" in name:
            raise SettingsError(f"the name of a cache is part of its keys' hash tag, and cannot be {name!r}")
        if unreachable not in {"wait", "refuse"}:
            raise SettingsError(f"unreachable is 'wait' or 'refuse', not {unreachable!r}")
        self._name = name
        remote = Remote(where, name, timing)
        self.tokens = RedisTokens(remote, unreachable)
        self._shared = Shared(remote, self.tokens, Tier(remote, self.tokens), Plans(), lease)
        remote.start()

    def cached(
        self,
        function: Callable[..., Any],
        store: Store,
        options: Options,
        *,
        namespace: str,
        key_of: Callable[..., Hashable],
    ) -> SharedCached:
        """Return a function with its cache."""
        return SharedCached(function, store, options, namespace=namespace, key_of=key_of, shared=self._shared)

    def values(self, store_of: Callable[[str], Store]) -> SharedValues:
        """Return what works with values by name."""
        return SharedValues(store_of, self._shared)

    def responses(self, store_of: Callable[[str], Store]) -> Responses:
        """Return what keeps HTTP responses."""
        return Responses(store_of, self._shared)

    def state(self) -> RedisState:
        """Return what this process knows of Redis, which is not asked."""
        remote, circuit = self._shared.remote, self._shared.remote.circuit
        return RedisState(
            name=self._name,
            server=str(remote._finder.found or ""),
            is_usable=circuit.is_usable(),
            openings=circuit.openings,
            reason="" if circuit.is_usable() else circuit.reason,
            malformed=self._shared.tier.malformed,
            unannounced=self.tokens.faults,
            owed=len(remote.owed.all()),
        )

    def clear(self) -> None:
        """Delete every entry in Redis."""
        self._shared.remote.finish(self._shared.tier.delete_matching_steps("*"))

    def close(self) -> None:
        """End the heartbeat, and close the connections. Twice does nothing more."""
        self._shared.remote.close()
