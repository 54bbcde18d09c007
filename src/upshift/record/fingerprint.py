"""Tells equal parameters of statements from others without keeping them.

A fingerprint is a short hash with a key of this process's own, so it tells nothing to whoever reads it.

What may have changed since it was sent, such as a list, or may run somebody's own code when it is looked at,
has no fingerprint. Nor has what is long: the work is bounded, and a false alarm is worse than none.
"""

from __future__ import annotations

from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from hashlib import blake2b
from secrets import token_bytes
from uuid import UUID
from zoneinfo import ZoneInfo

MAX_PARAMETERS = 100
"""Parameters of a statement that are compared; with more of them it has no fingerprint."""

MAX_VALUE = 1_000
"""Characters or bytes of a value, likewise, and bits of a number."""

_KEY = token_bytes(16)
_BOUNDED = frozenset({bool, date, float, timedelta, type(None), UUID})
_SIMPLE = _BOUNDED | {bytes, datetime, Decimal, int, str, time}
_ZONES = frozenset({type(None), timezone, ZoneInfo})

# A union in their place would be made anew for each value.
_SETS = (dict, tuple, list)
_TEXTS = (str, bytes)
_TIMES = (datetime, time)


def fingerprint(parameters: object) -> bytes | None:
    """Return a hash of one set of parameters; None where they cannot be compared.

    Args:
        parameters: as they went to the driver, a sequence or a mapping.

    Example:
        >>> fingerprint((7, "Taipei")) == fingerprint((7, "Taipei"))
        True
        >>> fingerprint((7, "Taipei")) == fingerprint((7, "Tainan"))
        False
        >>> fingerprint(([1, 2],)) is None
        True
    """
    if not isinstance(parameters, _SETS) or len(parameters) > MAX_PARAMETERS:
        return None
    values = tuple(parameters.values() if isinstance(parameters, dict) else parameters)
    if not all(map(_is_comparable, values)):
        return None
    text = repr(values).encode("utf-8", "surrogatepass")
    return blake2b(text, digest_size=8, key=_KEY).digest()


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
