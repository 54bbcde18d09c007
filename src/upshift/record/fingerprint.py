"""Tells equal parameters of statements from others without keeping them.

The fingerprint of a statement is a number: which of the different parameters of its text in its record it
had, in the order in which they came. So it tells nothing of them to whoever reads it. What they are told
apart by is a text, which is gone when all statements of a record have been looked at.

What may have changed since it was sent, such as a list, or may run somebody's own code when it is looked at,
is not compared. Nor is what is long: the work is bounded, and a false alarm is worse than none.
"""

from __future__ import annotations

from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from uuid import UUID
from zoneinfo import ZoneInfo

MAX_PARAMETERS = 100
"""Parameters of a statement that are compared; with more of them they are not."""

MAX_VALUE = 1_000
"""Characters or bytes of a value, likewise, and bits of a number."""

_BOUNDED = frozenset({bool, date, float, timedelta, type(None), UUID})
_SIMPLE = _BOUNDED | {bytes, datetime, Decimal, int, str, time}
_ZONES = frozenset({type(None), timezone, ZoneInfo})

# A union in their place would be made anew for each value.
_SETS = (dict, tuple, list)
_TEXTS = (str, bytes)
_TIMES = (datetime, time)


def comparable(parameters: object) -> str | None:
    """Return a text that only equal parameters have; None where they cannot be compared.

    Args:
        parameters: as they went to the driver, a sequence or a mapping.

    Example:
        >>> comparable((7, "Taipei")) == comparable((7, "Taipei"))
        True
        >>> comparable((7, "Taipei")) == comparable(("7", "Taipei"))
        False
        >>> comparable(([1, 2],)) is None
        True
    """
    if not isinstance(parameters, _SETS) or len(parameters) > MAX_PARAMETERS:
        return None
    values = tuple(parameters.values() if isinstance(parameters, dict) else parameters)
    return repr(values) if all(map(_is_comparable, values)) else None


def _is_comparable(value: object) -> bool:
    kind = type(value)
    if kind not in _SIMPLE:
        return False
    if kind in _BOUNDED:
        return True
    if isinstance(value, int):
        return value.bit_length() <= MAX_VALUE
    if isinstance(value, _TEXTS):
        return len(value) <= MAX_VALUE
    if isinstance(value, _TIMES):
        return type(value.tzinfo) in _ZONES
    return not isinstance(value, Decimal) or len(value.as_tuple().digits) <= MAX_VALUE
