"""Seeks stale values: runs a function again, now and then, for a value that it has just served, and compares.

What the tokens say is only right if they know of all that a value depends on. This finds out where they do
not: a view whose tables were not told, a writer that goes past the watched engines, something that is no
database at all. It costs one run of the function in so many hits, after the answer, never two at once, and
never more than a tenth of the time.

A difference counts where nothing else explains it: a second run brings the same again, so the function is not
one that answers differently each time; and when both are done, the tokens of the value that was served hold
still, so nothing was committed since it was loaded that the cache could know of.
"""

from __future__ import annotations

import logging
import threading
from functools import partial, wraps
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.util import greenlet_spawn

from upshift.cache.codec import codec_for, return_annotation_of
from upshift.cache.dependencies import EVERYTHING, Reading, reading, whole_tables
from upshift.cache.functions import value_of
from upshift.cache.functions.background import own_context
from upshift.cache.functions.kept_errors import KeptError
from upshift.cache.functions.refreshing import may_be_repeated

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

    from sqlalchemy import Connection, Engine

    from upshift.cache.functions import Cached, Call, Store
    from upshift.cache.memory import Entry

logger = logging.getLogger("upshift.cache")

REST = 9.0
"""For how many times as long as an audit took there is no other."""

LONGEST = 60.0
"""Seconds after which an audit is given up for lost, as that of an event loop that was closed."""

_TABLE = "table:"


class Subject(NamedTuple):
    """A function that is audited.

    Attributes:
        function: the function itself.
        cached: what keeps its values.
        store: what that works with.
        namespace: the name under which it is counted.
    """

    function: Callable[..., Any]
    cached: Cached
    store: Store
    namespace: str


class _Run(NamedTuple):
    """What a run brought, and what it has read."""

    value: Any
    reading: Reading


class Auditor:
    """Audits the functions of a cache.

    Args:
        every: hits of a function for one that is audited.
    """

    def __init__(self, every: int) -> None:
        self._every = every
        self._engines: list[Engine] = []
        self._lock = threading.Lock()
        self._not_before = 0.0
        self._told: set[str] = set()

    def watch(self, engines: Iterable[Engine]) -> None:
        """Ask these engines which of the names that are read are views."""
        self._engines += engines

    def close(self) -> None:
        """Let go of the engines, and begin nothing any more."""
        self._engines.clear()
        with self._lock:
            self._not_before = inf

    def around(self, subject: Subject, called: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function in the place of a cached one, that looks at one in so many of its hits."""
        statistics, every = subject.store.statistics, self._every

        if subject.cached.is_async:

            @wraps(subject.function)
            async def audited_async(*arguments: object, **named: object) -> object:
                turn = statistics.hits // every
                value = await called(*arguments, **named)
                if statistics.hits // every != turn:
                    self._begin(subject, subject.cached.call(arguments, named))
                return value

            return audited_async

        @wraps(subject.function)
        def audited(*arguments: object, **named: object) -> object:
            turn = statistics.hits // every
            value = called(*arguments, **named)
            if statistics.hits // every != turn:
                self._begin(subject, subject.cached.call(arguments, named))
            return value

        return audited

    def _begin(self, subject: Subject, call: Call) -> None:
        """Have a value audited in the background, unless another is."""
        entry = subject.store.memory.entries.get(call.key)
        if entry is None or type(entry.value) is KeptError or not may_be_repeated(call):
            return
        with self._lock:
            if monotonic() < self._not_before:
                return
            self._not_before = monotonic() + LONGEST
        background, context = subject.store.background, own_context()
        if subject.cached.is_async:
            has_begun = background.run_async(partial(self._run_async, subject, call, entry), context)
        else:
            has_begun = background.run_sync(partial(self._run_sync, subject, call, entry), context)
        if not has_begun:
            self._end(monotonic())

    def _run_sync(self, subject: Subject, call: Call, entry: Entry) -> None:
        began, steps = monotonic(), self._steps(subject, entry)
        try:
            next(steps)
            found = None
            while found is None:
                with reading(self._reading(subject)) as mine:
                    value = subject.function(*call.arguments, **call.named)
                found = _sent(steps, _Run(value, mine))
            if found.value is not None:
                self._tell(subject, entry, found.value, self._views())
                subject.cached.loader.run_sync(call)
        except Exception:
            logger.debug("%s could not be audited", subject.namespace, exc_info=True)
        finally:
            self._end(began)

    async def _run_async(self, subject: Subject, call: Call, entry: Entry) -> None:
        began, steps = monotonic(), self._steps(subject, entry)
        try:
            next(steps)
            found = None
            while found is None:
                with reading(self._reading(subject)) as mine:
                    value = await subject.function(*call.arguments, **call.named)
                found = await greenlet_spawn(_sent, steps, _Run(value, mine))  # tokens may be far away
            if found.value is not None:
                self._tell(subject, entry, found.value, await self._views_async())
                await subject.cached.loader.run_async(call)
        except Exception:
            logger.debug("%s could not be audited", subject.namespace, exc_info=True)
        finally:
            self._end(began)

    def _end(self, began: float) -> None:
        with self._lock:
            if self._not_before < inf:
                self._not_before = monotonic() + REST * (monotonic() - began)

    def _reading(self, subject: Subject) -> Reading:
        return Reading(subject.store.tokens, subject.store.now(), subject.cached.loader.expected)

    def _steps(self, subject: Subject, entry: Entry) -> Generator[None, _Run, Reading | None]:
        """Ask for runs, and return what the last one has read if the value is stale; None if it is not."""
        statistics, is_held = subject.store.statistics, subject.store.tokens.holds
        same = _Comparison(subject.function)
        kept = value_of(entry)
        first = yield
        statistics.audited += 1
        if same(kept, first.value):
            return None
        second = yield
        if not same(first.value, second.value):
            return None  # it answers differently each time
        read = second.reading
        if read.refusal or not is_held(read.stamp) or not is_held(entry.stamp):
            return None  # something was written meanwhile
        if subject.store.memory.entries.get(entry.key) is not entry:
            return None
        statistics.stale_served += 1
        return read

    def _tell(self, subject: Subject, entry: Entry, read: Reading, views: frozenset[str]) -> None:
        """Say once of a function what it depends on that the cache does not know of."""
        if subject.namespace in self._told:
            return
        self._told.add(subject.namespace)
        logger.warning(
            "%s has served a value that is not what it would be now, though nothing was written that it is"
            " known to depend on: %s. It is not audited with cached(audit=False)",
            subject.namespace,
            cause_of(entry.tags, read.tags, views),
        )

    def _views(self) -> frozenset[str]:
        """Return the names of views in the watched databases of which it is not known what they read."""
        found: set[str] = set()
        for engine in self._engines:
            if not engine.dialect.is_async:
                with engine.connect() as connection:
                    found |= _views(connection)
        return frozenset(found)

    async def _views_async(self) -> frozenset[str]:
        found: set[str] = set()
        for engine in self._engines:
            if engine.dialect.is_async:
                async with AsyncEngine(engine).connect() as connection:
                    found |= await connection.run_sync(_views)
        return frozenset(found)


class _Comparison:
    """Whether two values of a function are the same: equal, or the same bytes.

    Mapped objects are equal to themselves alone, and are compared by their columns.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._codec = codec_for(return_annotation_of(function))

    def __call__(self, one: object, other: object) -> bool:
        try:
            if bool(one == other):
                return True
        except Exception:  # noqa: BLE001, S110 - arrays have no truth; they may have bytes
            pass
        try:
            return self._codec.encode(one) == self._codec.encode(other)
        except Exception:  # noqa: BLE001 - they cannot be compared, so that they differ is not known
            return False


def cause_of(kept: frozenset[str], read: frozenset[str], views: Iterable[str]) -> str:
    """Return what a stale value probably depends on that the cache does not know of, and what to do.

    Args:
        kept: the tags of the value that was served.
        read: those of what is loaded now.
        views: names of views of which it is not known what they read.

    Example:
        >>> cause_of(frozenset({"*", "table:active"}), frozenset({"*", "table:active"}), ["active"])
        "active is a view: tell the tables behind it, Cache(views={'active': [...]})"
    """
    tables, known = _names(read), _names(kept)
    behind = sorted(tables & {each.lower() for each in views})
    if tables - known:
        names = ", ".join(sorted(tables - known))
        return f"it reads {names} now and did not then: tell what decides that by tags="
    if behind:
        named = ", ".join(f"{each!r}: [...]" for each in behind)
        what = "is a view: tell the tables behind it" if len(behind) == 1 else "are views: tell their tables"
        return f"{', '.join(behind)} {what}, Cache(views={{{named}}})"
    if EVERYTHING not in read:
        return "it reads from no database that is watched: tell what it depends on by tags=, or give a ttl"
    names = ", ".join(sorted(tables)) or "a table"
    return (
        f"{names} was written by others than the watched engines (Cache.listen hears of them), is read by a"
        " database's function (views=), or it depends on more than that (tags=)"
    )


def _names(tags: Iterable[str]) -> set[str]:
    return {tag.removeprefix(_TABLE) for tag in whole_tables(tags) if tag.startswith(_TABLE)}


def _views(connection: Connection) -> set[str]:
    inspector = sa.inspect(connection)
    if connection.dialect.name == "postgresql":  # which tells what the others read
        return set(inspector.get_materialized_view_names())
    return set(inspector.get_view_names())


class _Found(NamedTuple):
    """How an audit has ended."""

    value: Reading | None


def _sent(steps: Generator[None, _Run, Reading | None], run: _Run) -> _Found | None:
    """Hand a run on; return how the audit has ended, None while it has not."""
    try:
        steps.send(run)
    except StopIteration as end:
        return _Found(end.value)
    return None
