"""Writers outside of the application: the database tells of what they commit, by triggers and NOTIFY.

What flows in: notifications of PostgreSQL. What flows out: announcements to the cache's tokens.

The guarantee is a weaker one than that of hooked writers, which announce *before* they commit. PostgreSQL
delivers a notification *after* COMMIT, so between the two a value is served that is older: usually for some
milliseconds, for as long as the listener's thread or the network needs. That is the bound of staleness while
the listener listens. When its connection is lost, and until it listens again, nothing is served that was read
from a database at all; a connection that is open and silent is found lost after `CHECK_SECONDS` and
`ANSWER_SECONDS`, which is the bound then. Hooked writers stay as they are, and may be silenced for the
triggers where all of them share the cache's tokens: see `upshift.cache.triggers.definition`.

Nothing that is loaded after a notification is older than it: a listener is told once the transaction is no
longer in progress, so that every snapshot from then on has it. A load that was under way has stamped its tags
before, and is not kept.
"""

from upshift.cache.triggers.listener import Listener

__all__ = ["Listener"]
