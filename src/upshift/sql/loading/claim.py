"""Keeps SQLAlchemy's object states safe from a fault of CPython 3.11.

The attributes of a class's instances live in dicts that share their keys. Up to about thirty instances the
class takes new names; after that it takes one more, and an instance that is given another name gets a dict of
its own. Making that dict may run the garbage collector (from Python 3.12 on it runs elsewhere). If the object
of that very `InstanceState` is collected then, its weak reference calls `InstanceState._cleanup`, which makes
the dict a second time, and the first is freed under its owner: the process dies.

It takes a late name, and many states that get it while their objects die, as when a session closes. Without
batching names come early, one lazy load after the other; with batching many objects come before the first of
them is read. So all names are claimed when batching is installed, while the class still takes them.
"""

from __future__ import annotations

import sys
from typing import Any

from sqlalchemy.orm.state import InstanceState

NAMES = (
    "_deleted",
    "_empty_collections",
    "_instance_dict",
    "_last_known_values",
    "_load_pending",
    "_orphaned_outside_of_session",
    "_pending_mutations",
    "_strong_obj",
    "attrs",
    "callables",
    "expired",
    "identity_token",
    "info",
    "insert_order",
    "key",
    "load_options",
    "load_path",
    "mapper",
    "modified",
    "parents",
    "runid",
    "session_id",
)
"""What SQLAlchemy 2.0 and 2.1 may set on an `InstanceState` beyond its slots; 30 would be too many."""


def claim_names() -> bool:
    """Let the class take all names, and tell whether it is safe to go on.

    It is not on CPython 3.11 once the process has loaded so many objects that the class takes no more.

    Example:
        >>> claim_names()
        True
    """
    if sys.version_info >= (3, 12) or sys.implementation.name != "cpython":
        return True
    state: Any = InstanceState.__new__(InstanceState)
    for name in NAMES:
        setattr(state, name, None)
    # A dict that shares its keys is smaller than one that has them itself.
    return sys.getsizeof(vars(state)) < sys.getsizeof(dict(vars(state)))
