"""Loads values anew in the background while the old ones are served: ahead of their end, or after a commit.

A load of the background passes the protocol as any other does. It must not use what belongs to a caller,
such as a session, which may be in use or closed by then; a call with one is not repeated.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING

from sqlalchemy.engine import Connection
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession, async_scoped_session
from sqlalchemy.orm import Session, scoped_session

from upshift.cache.functions.background import own_context

if TYPE_CHECKING:
    from collections.abc import Iterator

    from upshift.cache.functions.calls import Call
    from upshift.cache.functions.loader import Loader
    from upshift.cache.functions.store import Store
    from upshift.cache.memory import Entry

RETRY_SECONDS = 1.0
"""How long after one that failed, or could not begin, a refresh is tried again."""

_OF_CALLERS = (
    Connection, Session, scoped_session, AsyncConnection, AsyncSession, async_scoped_session,
)  # fmt: skip


class Refresher:
    """Refreshes the values of one function.

    Args:
        loader: loads them.
        store: what it works with.
        is_async: whether the function is.
    """

    def __init__(self, loader: Loader, store: Store, *, is_async: bool) -> None:
        self._loader = loader
        self._store = store
        self._is_async = is_async
        self._claiming = threading.Lock()

    def refresh_soon(self, entry: Entry, call: Call) -> None:
        """Begin to load a value anew that is due, unless that has begun."""
        with self._claiming:
            if entry.renewal > monotonic():
                return  # another call was faster
            entry.renew_from(entry.expires)
        if not may_be_repeated(call):
            return
        background = self._store.background
        if self._is_async:
            has_begun = background.run_async(partial(self._refresh_async, entry, call), own_context())
        else:
            has_begun = background.run_sync(partial(self._refresh_sync, entry, call), own_context())
        if not has_begun:
            _put_off(entry)

    async def _refresh_async(self, entry: Entry, call: Call) -> None:
        with self._refreshing(entry):
            await self._loader.run_async(call)

    def _refresh_sync(self, entry: Entry, call: Call) -> None:
        with self._refreshing(entry):
            self._loader.run_sync(call)

    @contextmanager
    def _refreshing(self, entry: Entry) -> Iterator[None]:
        """Count a refresh; where it brings nothing, have it tried again."""
        try:
            yield
        except Exception:  # noqa: BLE001, S110 - the loader has counted it; the old value goes on being served
            pass
        finally:
            kept = self._store.memory.entries.get(entry.key)
            if kept is entry:
                _put_off(entry)
            elif kept is not None:
                self._store.statistics.refreshed += 1


def may_be_repeated(call: Call) -> bool:
    """Whether nothing that a function was called with belongs to its caller."""
    return not any(isinstance(each, _OF_CALLERS) for each in (*call.arguments, *call.named.values()))


def _put_off(entry: Entry) -> None:
    """Have a value refreshed a little later."""
    entry.renew_from(monotonic() + RETRY_SECONDS)
