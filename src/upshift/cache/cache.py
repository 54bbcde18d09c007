"""`Cache`: values of functions, each served only while what it was computed from is unchanged."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar
from uuid import uuid4

from sqlalchemy.ext.asyncio import AsyncEngine

from upshift.cache.cached import Cached, Store, name_tag
from upshift.cache.dependencies import CommitHooks, StatementTables
from upshift.cache.durations import seconds_of
from upshift.cache.keys import CallKeys
from upshift.cache.memory import Memory
from upshift.cache.statistics import Statistics
from upshift.cache.tokens import Carrier, LocalTokens, PageTokens

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Mapping

    from sqlalchemy.engine import Engine

    from upshift.cache.durations import Duration
    from upshift.cache.memory import Entry

_Parameters = ParamSpec("_Parameters")
_Value = TypeVar("_Value")


class Cache:
    """A cache in this process.

    What a cached function reads from hooked engines, and what transactions on them write, is taken from the
    statements. A value is served only while nothing of what it was computed from has been committed since;
    the guarantee and what it leans on are told in `upshift.cache.tokens`. Writers that go past the hooked
    engines are not seen, and other processes only where they share a page.

    Args:
        max_entries: entries at most.
        max_bytes: bytes that they take at most, about.
        views: for the name of each database view or function, the tables that it reads.
        page: a file that the processes of a host share, such as the workers of a server, so that each sees
            what the others write. Their values stay their own.

    Raises:
        SettingsError: the page cannot be used.

    Example:
        >>> cache = Cache()
        >>> @cache.cached(ttl="1h", tags=["greeting"])
        ... def greeting(name):
        ...     print("made for", name)
        ...     return f"Hello, {name}"
        >>> greeting("Mei"), greeting("Mei")
        made for Mei
        ('Hello, Mei', 'Hello, Mei')
        >>> cache.invalidate("greeting")
        >>> greeting("Mei")
        made for Mei
        'Hello, Mei'
    """

    def __init__(
        self,
        *,
        max_entries: int = 100_000,
        max_bytes: int = 256 * 2**20,
        views: Mapping[str, Iterable[str]] | None = None,
        page: str | Path | None = None,
    ) -> None:
        self._tokens: Carrier[tuple[Any, ...]] = LocalTokens() if page is None else PageTokens(Path(page))
        self._tables = StatementTables(views)
        self._hooks: list[CommitHooks] = []
        self._now = count(1).__next__
        self._memory = Memory(max_entries, max_bytes, self._count_eviction)
        self._statistics: dict[str, Statistics] = {}

    def watch(self, engines: Iterable[Engine | AsyncEngine], *, may_lag: bool = False) -> None:
        """Take what is read and written from the statements of engines, from now on.

        Args:
            engines: the engines, sync or async.
            may_lag: whether they lead to replicas; what is read there is never kept.
        """
        sync_engines = [each.sync_engine if isinstance(each, AsyncEngine) else each for each in engines]
        self._hooks.append(CommitHooks(sync_engines, self._tokens, self._tables, self._now, may_lag=may_lag))

    def cached(
        self,
        ttl: Duration | None = None,
        *,
        tags: Iterable[str] = (),
        key: Callable[..., Hashable] | None = None,
        ignore: Iterable[str] = (),
        namespace: str | None = None,
    ) -> Callable[[Callable[_Parameters, _Value]], Callable[_Parameters, _Value]]:
        """Return a decorator that keeps the values of a function, sync or async.

        Calls of one key that come while it loads share that load. Within a transaction that has written what
        the value depends on, the function is called as if it were not cached.

        Args:
            ttl: how long a value is served at most, though nothing it depends on is written; each value a
                little shorter, by chance, so that they do not end together. None for no limit.
            tags: further names that it depends on, for `invalidate`; `{parameter}` stands for an argument.
            key: makes the key from the arguments; without one it is made from all of them, by the signature.
            ignore: parameters that the value does not depend on, such as a session.
            namespace: the name under which it is counted; the function's own where none is given.

        Raises:
            CacheKeyError: at once, where no key can be made from the function's parameters; at a call, where
                one cannot be made from its arguments.
            SettingsError: `ttl` is no duration.
        """
        seconds = None if ttl is None else seconds_of(ttl)

        def decorate(function: Callable[_Parameters, _Value]) -> Callable[_Parameters, _Value]:
            name = namespace or f"{function.__module__}.{function.__qualname__}"
            made = Cached(
                function,
                Store(self._tokens, self._memory, self._now, self._statistics_of(name)),
                namespace=name,
                seconds=seconds,
                tags=tuple(tags),
                key=key or CallKeys(function, ignore),
            )
            return made.wrapped()

        return decorate

    def invalidate(self, *tags: str) -> None:
        """Serve nothing any more that depends on one of these tags, which `cached` was given."""
        named = [name_tag(tag) for tag in tags]
        transaction = uuid4().hex
        self._tokens.announce(named, transaction)
        self._tokens.settle(named, transaction)

    def clear(self) -> None:
        """Drop every entry."""
        self._memory.clear()

    def statistics(self) -> dict[str, Statistics]:
        """Return what was counted, by namespace."""
        return dict(self._statistics)

    def close(self) -> None:
        """Let go of the engines, and drop every entry. Calling it twice does nothing more.

        From then on writes are not seen, so nothing should be cached with it any more.
        """
        for hooks in self._hooks:
            hooks.close()
        self._hooks.clear()
        self._memory.clear()

    def _statistics_of(self, namespace: str) -> Statistics:
        return self._statistics.setdefault(namespace, Statistics())

    def _count_eviction(self, entry: Entry) -> None:
        self._statistics_of(entry.key[0]).evictions += 1
