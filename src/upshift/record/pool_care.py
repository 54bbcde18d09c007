"""What was done for a connection pool, in numbers."""

from __future__ import annotations

from typing import NamedTuple


class PoolTally(NamedTuple):
    """What was done for a pool since the start, and where it stands.

    Attributes:
        pool: its name.
        limit: connections that automatic sizing lets be in use now; None without it.
        target: the limit that it thinks best; None likewise.
        most: the most that it may choose, by the settings and by what the server has left; None likewise.
        raised: times when it chose a higher one.
        lowered: times when it chose a lower one.
        pings: connections that were asked before they were used.
        failed_pings: connections that did not answer and were replaced.
        recycled: connections replaced for their age.
    """

    pool: str
    limit: int | None = None
    target: int | None = None
    most: int | None = None
    raised: int = 0
    lowered: int = 0
    pings: int = 0
    failed_pings: int = 0
    recycled: int = 0
