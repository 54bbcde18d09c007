"""Single flight: the loads that are under way, so that calls of one key share one.

Who waits is told how the load ended, and judges for itself whether that answers it (`cached.Cached`).
Event loops do not wait for each other, nor threads for loops: a load of an event loop is shared within it,
one of a thread among threads.

Nobody waits for a load that cannot end before one of the caller's own. That is so of the load that the caller
runs within, as in a function that asks for its own value; and of one that waits in its turn, through however
many, for such a load. Who would close that ring loads by itself.
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from upshift.cache.dependencies import CURRENT
from upshift.record.fork import after_fork

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from upshift.cache.dependencies import Reading
    from upshift.cache.memory import Entry, Key

_Done = TypeVar("_Done", asyncio.Event, threading.Event)


class Load(Generic[_Done]):
    """A load that others may wait for.

    Args:
        done: set when it is over.
        owner: the event loop that it runs in, or the number of the thread.
        reading: gathers what it reads.
        told: tags that were known of it from the beginning.

    Attributes:
        entry: what it has brought, as it is kept; None where it was not.
        error: the exception that it ended with, which its callers share.
        is_cancelled: whether it was given up; who waited loads again.
        is_unwanted: whether its key was deleted meanwhile, so that what it brings must not be kept.
    """

    def __init__(
        self,
        done: _Done,
        owner: asyncio.AbstractEventLoop | int,
        reading: Reading,
        told: tuple[str, ...] = (),
    ) -> None:
        self.done: _Done = done
        self.owner = owner
        self.reading = reading
        self.told = told
        self.entry: Entry | None = None
        self.error: Exception | None = None
        self.is_cancelled = False
        self.is_unwanted = False


class Flights:
    """The loads of a cache that are under way.

    Example:
        >>> flights, key = Flights(), ("menu", 7)
        >>> load = Load(threading.Event(), owner=1, reading=None)
        >>> with flights.under_way(key, load):
        ...     flights.in_other_thread(key) is load
        True
        >>> flights.in_other_thread(key), load.done.is_set()
        (None, True)
    """

    def __init__(self) -> None:
        self._loads: dict[Key, list[Load[Any]]] = {}
        self._waits: dict[Reading, list[Load[Any]]] = {}  # what is waited for within a load, by its reading
        self._lock = threading.Lock()
        after_fork(self._forget)

    def in_loop(self, key: Key, loop: asyncio.AbstractEventLoop) -> Load[asyncio.Event] | None:
        """Return the load of a key in this event loop that may be waited for."""
        return self._first(key, lambda owner: owner is loop)

    def in_other_thread(self, key: Key) -> Load[threading.Event] | None:
        """Return the load of a key in another thread that may be waited for."""
        # In this thread it may belong to a greenlet, which goes on only when this one gives way.
        own = threading.get_ident()
        return self._first(key, lambda owner: isinstance(owner, int) and owner != own)

    @contextmanager
    def under_way(self, key: Key, load: Load[Any]) -> Iterator[None]:
        """Let others wait for a load in the length of a `with` block, and tell them how it ended."""
        with self._lock:
            self._loads.setdefault(key, []).append(load)
        try:
            yield
        except Exception as error:
            load.error = error
            raise
        except BaseException:
            load.is_cancelled = True
            raise
        finally:
            with self._lock:
                loads = self._loads.get(key, [])
                if load in loads:
                    loads.remove(load)
                if not loads:
                    self._loads.pop(key, None)
                self._waits.pop(load.reading, None)
            load.done.set()

    def disown(self, is_meant: Callable[[Key], bool]) -> None:
        """Keep nothing of what is being loaded for some keys, as they are deleted."""
        with self._lock:
            for key, loads in self._loads.items():
                if is_meant(key):
                    for load in loads:
                        load.is_unwanted = True

    def _first(self, key: Key, is_meant: Callable[[object], bool]) -> Load[Any] | None:
        inner = CURRENT.get()
        with self._lock:
            for load in self._loads.get(key, ()):
                if is_meant(load.owner) and (inner is None or not self._needs(load, inner)):
                    for each in inner.chain() if inner is not None else ():
                        self._waits.setdefault(each, []).append(load)
                    return load
        return None

    def _needs(self, load: Load[Any], inner: Reading) -> bool:
        """Whether a load cannot end before one that the caller runs within."""
        needed = [load]
        for each in needed:  # grows meanwhile
            if inner.is_within(each.reading):
                return True
            waits = self._waits.get(each.reading, ())
            needed += [other for other in waits if other not in needed and not other.done.is_set()]
        return False

    def _forget(self) -> None:
        """In a forked child: there are no threads that would end these loads."""
        self._loads.clear()
        self._waits.clear()
        self._lock = threading.Lock()
