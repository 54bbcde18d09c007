"""What each kind of statement came to in equal windows of time, in fixed memory.

Trends are told from windows, not from single executions: executions of one minute resemble each other, since
one busy neighbour slows all of them, so a thousand of them are not a thousand witnesses. A window is one.

A process that has just started needs short windows, and one that has run for a day long ones. So windows
begin with a second, and whenever there are too many of them, each two become one; once they are as long as
they may be, the oldest goes instead. Time is that of the records (`time.perf_counter()`), which no clock
setting moves.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

MAX_WINDOWS = 24
"""Windows kept."""

LONGEST_SECONDS = 256.0
"""The length that windows of a running application grow to; so `MAX_WINDOWS` of them tell of 1.7 hours."""

_LEAST = 1e-6  # a driver that took no time has no logarithm
_LOG_LEAST = math.log(_LEAST)


class Usage:
    """What the executions of one kind of statement came to in one window.

    Attributes:
        count: executions.
        logs: the sum of the natural logarithms of their times in seconds, which one long execution cannot
            sway as it can the mean.
    """

    __slots__ = ("count", "logs")

    def __init__(self, count: int = 0, logs: float = 0.0) -> None:
        self.count = count
        self.logs = logs

    def add_all(self, times: Collection[float]) -> None:
        """Count executions."""
        self.count += len(times)
        if min(times, default=0.0) > _LEAST:
            self.logs += sum(map(math.log, times))
        else:
            self.logs += sum([math.log(seconds) if seconds > _LEAST else _LOG_LEAST for seconds in times])

    def merge(self, other: Usage) -> None:
        """Add what another came to."""
        self.count += other.count
        self.logs += other.logs


class Window:
    """One stretch of time.

    Attributes:
        records: the records that began in it and sent statements.
        usage: what the statements came to, by the id of their digest.
    """

    __slots__ = ("records", "usage")

    def __init__(self) -> None:
        self.records = 0
        self.usage: dict[str, Usage] = {}

    def of(self, digest: str) -> Usage:
        """Return what the statements of a digest came to."""
        usage = self.usage.get(digest)
        if usage is None:
            usage = self.usage[digest] = Usage()
        return usage

    def merge(self, other: Window) -> None:
        """Add what came to another."""
        self.records += other.records
        for digest, usage in other.usage.items():
            self.of(digest).merge(usage)


class Windows:
    """The latest windows, at most `MAX_WINDOWS`.

    Args:
        longest: the seconds that windows may grow to; without end for a recording, all of which is to be
            told.

    Example:
        >>> windows = Windows()
        >>> for second in range(40):
        ...     windows.at(1000.0 + second).records += 1
        >>> windows.seconds, [each.records for each in windows.all()][:3]
        (2.0, [2, 2, 2])
    """

    def __init__(self, longest: float = LONGEST_SECONDS) -> None:
        self._doublings = 0  # a window begins as a second
        self._longest = longest
        self._by_number: dict[int, Window] = {}

    @property
    def seconds(self) -> float:
        """The length of a window now."""
        return 2.0**self._doublings

    def at(self, started: float) -> Window:
        """Return the window of a record; of one that is older than all of them, one that nobody reads."""
        window = self._by_number.get(math.floor(started) >> self._doublings)
        return self._open(started) if window is None else window

    def has(self, started: float) -> bool:
        """Whether the window of a record is there, so that `at` leaves all others as they are."""
        return math.floor(started) >> self._doublings in self._by_number

    def all(self) -> tuple[Window, ...]:
        """Return the windows, the oldest first; one in which nothing happened is there as well."""
        known = dict(self._by_number)
        if not known:
            return ()
        return tuple(known.get(number) or Window() for number in range(min(known), max(known) + 1))

    def _open(self, started: float) -> Window:
        while True:
            number = math.floor(started) >> self._doublings
            newest = max(self._by_number, default=number)
            first, last = min(self._by_number, default=number), max(newest, number)
            if last - min(first, number) < MAX_WINDOWS:
                break
            if self.seconds * 2 > self._longest:
                oldest = last - MAX_WINDOWS + 1
                # A new dict, as whoever reads may be about to copy the other.
                self._by_number = {key: each for key, each in self._by_number.items() if key >= oldest}
                if number < oldest:
                    return Window()
                break
            self._coarsen()
        window = self._by_number.get(number)
        if window is None:
            window = self._by_number[number] = Window()
        return window

    def _coarsen(self) -> None:
        """Make one window of each two."""
        merged: dict[int, Window] = {}
        for number, window in self._by_number.items():
            merged.setdefault(number // 2, Window()).merge(window)
        self._doublings += 1
        self._by_number = merged
