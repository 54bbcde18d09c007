"""Wall-clock times as RFC 3339 writes them, in UTC with microseconds."""

from __future__ import annotations

import datetime as dt
import time
from math import floor


class Timestamps:
    """Writes times; what lines of one second have in common is made once a second.

    Source: RFC 3339, section 5.6.

    Example:
        >>> Timestamps().at(1_000_000_000.25)
        '2001-09-09T01:46:40.250000Z'
    """

    __slots__ = ("_known",)

    def __init__(self) -> None:
        # One attribute, so that no thread sees a second with the text of another.
        self._known = (0, "1970-01-01T00:00:00.")

    def at(self, seconds: float) -> str:
        """Write a time, given in seconds since 1970; one that no calendar has is written as now."""
        try:
            second = floor(seconds)
            known = self._known
            if known[0] != second:
                start = dt.datetime.fromtimestamp(second, dt.UTC)
                known = self._known = (second, start.strftime("%Y-%m-%dT%H:%M:%S."))
        except (ValueError, OverflowError, OSError):
            return self.at(time.time())
        return f"{known[1]}{int((seconds - second) * 1e6):06d}Z"
