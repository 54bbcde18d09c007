"""Entries: how long a value is served, from when on it is loaded anew, and what is handed out of it."""

from __future__ import annotations

from math import inf
from random import random
from time import monotonic
from typing import TYPE_CHECKING, Any

from upshift.cache.codec import Copies
from upshift.cache.functions.kept_errors import KeptError
from upshift.cache.memory import Entry
from upshift.cache.sizes import size_of

if TYPE_CHECKING:
    from upshift.cache.functions.store import Dependence
    from upshift.cache.memory import Key

JITTER = 0.1
"""Share of its time by which a value may be dropped early."""

_MADE = (KeptError, Copies)
"""What is kept in the place of values that are made for each who asks."""


def entry_of(  # noqa: PLR0913, PLR0917 - what an entry has
    key: Key,
    value: Any,
    depends: Dependence,
    seconds: float | None,
    refresh_share: float = 0.0,
    size: int | None = None,
) -> Entry:
    """Return an entry that is about to be kept.

    Args:
        key: its key.
        value: its value.
        depends: what it depends on.
        seconds: how long it is served at most; None for no limit.
        refresh_share: last share of that in which it is loaded anew.
        size: bytes that it takes; it is looked at where nobody knows.
    """
    made, expires = monotonic(), inf
    if seconds is not None:
        expires = made + seconds * (1 - JITTER * random())  # noqa: S311 - no secret
    if size is None:
        size = len(value.data) if type(value) is Copies else size_of(value)
    entry = Entry(key, value, depends.stamp, depends.tags, expires, size)
    entry.made = made
    if refresh_share:
        # Drawn, so that of several processes one is first, and the values of one do not come together
        # (Vattani, Chierichetti, Lowenstein: "Optimal Probabilistic Cache Stampede Prevention", VLDB 2015).
        share = refresh_share * (1 + random()) / 2  # noqa: S311 - no secret
        entry.renew_from(expires - (expires - made) * share)
    if type(value) in _MADE:
        entry.due = -inf
    return entry


def value_of(entry: Entry) -> Any:
    """Return the value of an entry, or raise the exception that it keeps."""
    value = entry.value
    if type(value) is KeptError:
        raise value.again()
    return value.take() if type(value) is Copies else value
