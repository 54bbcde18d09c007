"""Objects that the caller's session had before a load.

A session answers from its identity map: `get` sends no statement for an object that is there, and a SELECT
leaves it as it is. What a function computes from such an object may be older than the stamps of its load,
depend on a row that no statement has named, or have never been committed. So while a function loads that was
given a session, that session's map tells when an object is taken from it that was there before, and the value
is not kept. An object that is expired is read anew, and one that the load itself has brought is fine.

Only sessions that are arguments are seen.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session
from sqlalchemy.orm import Session, scoped_session
from sqlalchemy.orm.attributes import instance_state

if TYPE_CHECKING:
    from collections.abc import Iterator

    from upshift.cache.dependencies import Reading
    from upshift.cache.functions.calls import Call

HELD_BEFORE = "its session had an object of it before"
"""Why such a value is not kept."""


@contextmanager
def watching_objects(call: Call, reading: Reading) -> Iterator[None]:
    """In the length of a `with` block, refuse what is taken from objects that a call's sessions have now."""
    with ExitStack() as stack:
        for each in (*call.arguments, *call.named.values()):
            session = _session_of(each)
            if session is not None and (identities := session.identity_map).keys():
                stack.enter_context(_watched(identities, reading))
        yield


class _Watch:
    """Stands in the place of an identity map's `get`, for all loads that read from it at once."""

    def __init__(self, identities: Any) -> None:
        self.get = identities.get
        self.before: dict[Reading, frozenset[Any]] = {}

    def __call__(self, key: Any, default: Any = None) -> Any:
        found = self.get(key, default)
        if found is not None and not instance_state(found).expired:
            for reading, keys in self.before.items():
                if key in keys:
                    reading.refuse(HELD_BEFORE)
        return found


@contextmanager
def _watched(identities: Any, reading: Reading) -> Iterator[None]:
    watch = vars(identities).get("get")
    if watch is None:
        watch = identities.get = _Watch(identities)
    watch.before[reading] = frozenset(identities.keys())
    try:
        yield
    finally:
        del watch.before[reading]
        if not watch.before:
            del identities.get


def _session_of(argument: object) -> Session | None:
    if isinstance(argument, (scoped_session, async_scoped_session)):
        argument = argument.registry() if argument.registry.has() else None
    if isinstance(argument, AsyncSession):
        return argument.sync_session
    return argument if isinstance(argument, Session) else None
