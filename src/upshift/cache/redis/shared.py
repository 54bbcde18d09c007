"""What the cached functions and values of one cache share with other processes."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

from upshift.cache.dependencies import CURRENT
from upshift.cache.redis.tokens import is_current

if TYPE_CHECKING:
    from upshift.cache.codec import Plans
    from upshift.cache.memory import Entry
    from upshift.cache.redis.remote import Remote, Steps
    from upshift.cache.redis.tier import Tier
    from upshift.cache.redis.tokens import RedisTokens, Stamp


NOT_HELD = "what it depends on was written meanwhile, or Redis is away"
"""Why a value is not kept that could have been."""


class Shared(NamedTuple):
    """What is shared.

    Attributes:
        remote: the Redis.
        tokens: the tokens there.
        tier: the entries there.
        plans: what is known of mapped classes, for codecs.
        lease: how many seconds an entry in memory is served after a look at its tokens; 0 for no more than
            the call that looked.
    """

    remote: Remote
    tokens: RedisTokens
    tier: Tier
    plans: Plans
    lease: float

    def renew_steps(self, entry: Entry) -> Steps[bool]:
        """Tell whether an entry holds, which renews its lease.

        Raises:
            Unreachable: Redis is away.
        """
        began = monotonic()
        (values,) = yield [self.tokens.holds_command(entry.stamp)]
        if not is_current(entry.stamp, values):
            return False
        entry.leased = began + self.lease
        return True


def inherit(stamp: Stamp) -> None:
    """Have the running cached function depend on what a value depends on that it uses."""
    outer = CURRENT.get()
    if outer is not None:
        outer.inherit({item[0]: (item,) for item in stamp})
