"""Positions in PostgreSQL's write-ahead log."""

from __future__ import annotations

from typing import NamedTuple


class Position(NamedTuple):
    """A position in the log, in the order of time: first the timeline, then the place in it.

    A promoted server begins a new timeline, which may start below what the old one had reached; what the old
    one had written beyond that is lost. So whoever is on a later timeline has all that is left of the earlier
    ones, and comparing timelines first is right whatever their places are.

    Attributes:
        timeline: its number.
        lsn: the log sequence number, in bytes.

    Example:
        >>> Position(1, 0x5000060) < Position.parse(1, "0/5000061") < Position(2, 0)
        True
    """

    timeline: int
    lsn: int

    @classmethod
    def parse(cls, timeline: int, lsn: str) -> Position:
        """Read a `pg_lsn`, two hexadecimal halves with a slash between them.

        Raises:
            ValueError: it is none.
        """
        high, low = lsn.split("/")
        return cls(timeline, (int(high, 16) << 32) | int(low, 16))


BEYOND = Position((1 << 32) - 1, (1 << 64) - 1)
"""A position that no replica reaches: whoever has to see it reads from the primary."""
