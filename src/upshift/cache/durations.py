"""Times as people write them."""

from __future__ import annotations

import re
from datetime import timedelta

from upshift.errors import SettingsError

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}
_TEXT = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")

Duration = str | float | timedelta
"""Seconds as a number, a `timedelta`, or a text such as `"90s"`, `"5m"`, `"1h"`, `"7d"`."""


def seconds_of(duration: Duration) -> float:
    """Return the seconds of a duration.

    Raises:
        SettingsError: it is none, or not positive.

    Example:
        >>> seconds_of("1.5h"), seconds_of(30), seconds_of(timedelta(minutes=1))
        (5400.0, 30.0, 60.0)
    """
    if isinstance(duration, str):
        found = _TEXT.fullmatch(duration.strip())
        seconds = float(found[1]) * _UNITS[found[2]] if found else 0.0
    else:
        seconds = duration.total_seconds() if isinstance(duration, timedelta) else float(duration)
    if not 0 < seconds < float("inf"):
        raise SettingsError(f"{duration!r} is no duration; it looks like 30, '90s', '5m', '1h' or '7d'")
    return seconds
