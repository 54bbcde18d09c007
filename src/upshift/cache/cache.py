"""`Cache`: values of functions, each served only while what it was computed from is unchanged."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from math import nan
from pathlib import Path
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

from sqlalchemy import URL
from sqlalchemy.ext.asyncio import AsyncEngine

from upshift.cache.aio import AsyncCache
from upshift.cache.auditor import Auditor, Subject
from upshift.cache.dependencies import (
    CURRENT,
    EVERYTHING,
    CommitHooks,
    Reading,
    StatementTables,
    reading,
    table_tag,
)
from upshift.cache.durations import seconds_of
from upshift.cache.entities import Entities
from upshift.cache.functions import (
    Background,
    Cached,
    Decorator,
    Flights,
    Store,
    handle,
    name_tag,
    namespace_tag,
    options_of,
)
from upshift.cache.keys import CallKeys
from upshift.cache.memory import Memory
from upshift.cache.responses import Responses
from upshift.cache.state import CacheState, ListenerState
from upshift.cache.statistics import Statistics, time_of_hit
from upshift.cache.tokens import Carrier, ListenedTokens, PageTokens, tokens_of
from upshift.cache.triggers import Listener
from upshift.cache.values import NAMESPACE, Values
from upshift.cache.warming import CONCURRENCY, Warmed, warm
from upshift.cache.writes import Writes
from upshift.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence

    from sqlalchemy.engine import Engine
    from sqlalchemy.orm import Session
    from sqlalchemy.orm.interfaces import ORMOption

    from upshift.cache.durations import Duration
    from upshift.cache.memory import Entry, Key
    from upshift.cache.redis import InRedis
    from upshift.cache.warming import Calls, Progress

_Model = TypeVar("_Model")

MAX_NAMESPACES = 1_000
"""Namespaces that are counted apart; those that come later are counted together."""

OTHERS = "others"
"""The namespace under which those are counted."""


class Cache:
    """A cache in this process, or for all processes that use one Redis.

    What a cached function reads from hooked engines, and what transactions on them write, is taken from the
    statements. A value is served only while nothing of what it was computed from has been committed since;
    the guarantee and what it leans on are told in `upshift.cache.tokens`. Writers that go past the hooked
    engines are seen only where the database tells of them (`listen`), and other processes only where they
    share a page or a Redis.

    Args:
        redis: where all processes keep their values, beside those in memory: `redis://`, `rediss://`,
            `unix://`, `redis+sentinel://host,host/service`, `redis+cluster://host,host`, or a client of
            redis-py. It needs the extra `redis`.
        name: tells caches apart in one Redis, and in one server's page.
        lease: how long a value in memory is served after Redis was asked whether it holds, **though it may
            have been written since**. It is asked at each call where none is given.
        timeout: how long an answer of Redis may take. After three failures in a row functions run uncached,
            until a heartbeat in the background finds it well again.
        unreachable: what becomes of a commit that Redis cannot be told of. `"wait"`: COMMIT returns when
            nothing older can be served any more, within two seconds. `"refuse"`: nothing is committed, and
            `CacheUnreachableError` is raised.
        max_entries: entries at most.
        max_bytes: bytes that they take at most, about.
        views: for the name of each database view or function, the tables that it reads. PostgreSQL tells of
            its views itself: see `upshift.cache.dependencies.catalogue`.
        page: a file that the processes of a host share, so that each sees what the others write. Their values
            stay their own. Workers of one uvicorn, gunicorn or granian share one without being told.
        audit: hits of a function for one after which it is run again, to compare; None for none. What it
            finds is logged, and counted as `stale_served`: see `upshift.cache.auditor`.

    Raises:
        SettingsError: the page cannot be used, or an option has a value that it cannot have.
        MissingExtraError: redis-py is not installed.

    Attributes:
        aio: the same to be awaited, see `AsyncCache`.
        responses: keeps HTTP responses when it is called, see `Responses`.
        writes: writes by way of the cache: write-through and write-behind, see `Writes`.

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

    def __init__(  # noqa: PLR0913 - each is about something else
        self,
        redis: Any = None,
        *,
        name: str = "default",
        lease: Duration | None = None,
        timeout: Duration = "40ms",
        unreachable: Literal["wait", "refuse"] = "wait",
        max_entries: int = 100_000,
        max_bytes: int = 256 * 2**20,
        views: Mapping[str, Iterable[str]] | None = None,
        page: str | Path | None = None,
        audit: int | None = None,
    ) -> None:
        if audit is not None and audit < 1:
            raise SettingsError(f"audit counts hits, as 1000: {audit!r}")
        if redis is not None and page is not None:
            raise SettingsError("a cache in Redis is shared by all processes: leave the page out")
        seconds = 0.0 if lease is None else seconds_of(lease)
        self._shared = (
            None if redis is None else _in_redis(redis, name, seconds, seconds_of(timeout), unreachable)
        )
        carrier: Carrier[tuple[Any, ...]]
        if self._shared is not None:
            carrier = self._shared.tokens
        else:
            carrier, page = tokens_of(name) if page is None else (PageTokens(Path(page)), page)
        self._carrier = carrier
        self._page = "" if page is None else str(page)
        self._watched: list[Engine] = []
        self._tokens: ListenedTokens[tuple[Any, ...]] = ListenedTokens(carrier)
        self._tables = StatementTables(views)
        self._hooks: list[CommitHooks] = []
        self._listeners: list[Listener] = []
        self._now = perf_counter_ns  # for all caches of the process: one may read within another
        self._memory = Memory(max_entries, max_bytes, self._count_eviction)
        self._auditor = None if audit is None else Auditor(audit)
        self._flights = Flights()
        self._background = Background()
        self._statistics: dict[str, Statistics] = {}
        self._owners: dict[str, str] = {}
        self._values = Values(self._store) if self._shared is None else self._shared.values(self._store)
        self.aio = AsyncCache(self)
        self.responses = (
            Responses(self._store) if self._shared is None else self._shared.responses(self._store)
        )
        self.writes = Writes(lambda tags: self._store(NAMESPACE).renew(tags))

    def watch(self, engines: Iterable[Engine | AsyncEngine], *, may_lag: bool = False) -> None:
        """Take what is read and written from the statements of engines, from now on.

        Args:
            engines: the engines, sync or async.
            may_lag: whether they lead to replicas; what is read there is never kept.
        """
        sync_engines = [each.sync_engine if isinstance(each, AsyncEngine) else each for each in engines]
        self._watched += sync_engines
        if self._auditor is not None:
            self._auditor.watch(sync_engines)
        self._hooks.append(CommitHooks(sync_engines, self._tokens, self._tables, self._now, may_lag=may_lag))

    def listen(self, database: str | URL | Engine | AsyncEngine) -> Listener:
        """Hear of what is committed past the hooked engines, which triggers of a PostgreSQL tell.

        They are installed by `upshift cache install-triggers`. Such writers are seen when the database has
        told of them, usually some milliseconds **after** their COMMIT; hooked writers are seen at once, as
        without it. While the database is not heard, nothing is served that was read from one. It needs the
        extra `postgres`.

        Args:
            database: its URL, or an engine of it. Not by way of a pooler such as PgBouncer.

        Returns:
            What listens, which `close()` ends with the cache.

        Raises:
            SettingsError: it is no PostgreSQL.
            MissingExtraError: psycopg is not installed.
        """
        url = database if isinstance(database, (str, URL)) else database.url
        listener = Listener(url, self._tokens, self._tables.schema)
        self._listeners.append(listener)
        return listener

    def cached(  # noqa: PLR0913 - each is about something else
        self,
        ttl: Duration | None = None,
        *,
        tags: Iterable[str] = (),
        key: Callable[..., Hashable] | None = None,
        ignore: Iterable[str] = (),
        namespace: str | None = None,
        refresh_ahead: float = 0.0,
        stale_on_error: Duration | None = None,
        negative_ttl: Duration | None = None,
        cache_errors: Iterable[type[Exception]] = (),
        warm_after_invalidation: int = 0,
        audit: bool = True,
    ) -> Decorator:
        """Return a decorator that keeps the values of a function, sync or async.

        Calls of one key that come while it loads share that load. Within a transaction that has written what
        the value depends on, the function is called as if it were not cached. The function has forms beside
        being called, such as `get`, `set` and `delete`: see `CachedFunction`.

        Args:
            ttl: how long a value is served at most, though nothing it depends on is written; each value a
                little shorter, by chance, so that they do not end together. None for no limit.
            tags: further names that it depends on, for `invalidate`; `{parameter}` stands for an argument.
            key: makes the key from the arguments; without one it is made from all of them, by the signature.
            ignore: parameters that the value does not depend on, such as a session.
            namespace: the name under which it is counted; the function's own where none is given.
            refresh_ahead: the last share of `ttl`, from 0 to 1, in which a call that finds a value has it
                loaded anew in the background; it is answered at once. Each value begins in the first half
                of that, by chance. The function must open its own session, and is called with a copy of
                the caller's context.
            stale_on_error: serve the last value where the function raises, **though it may be stale**, as
                long as it was loaded not longer ago than this. What is computed from it is not kept.
            negative_ttl: how long None is kept, and each of `cache_errors`; like other values if not given.
            cache_errors: exceptions that are answers, such as that there is no such row. They are kept, and
                raised again until something that they depend on is written.
            warm_after_invalidation: values at most, of those that were read, that are loaded anew in the
                background as soon as a commit in this process has ended them.
            audit: whether it may be run again to compare, where the cache does that. Not where it does more
                than to read. It is never where `ignore` leaves something of the caller's out of the key.

        Raises:
            CacheKeyError: at once, where no key can be made from the function's parameters; at a call, where
                one cannot be made from its arguments.
            SettingsError: an option has a value that it cannot have, or does not go with another.
        """
        if callable(ttl):
            raise SettingsError("cached is called to get a decorator: write @cache.cached()")
        ignored = tuple(ignore)
        options = options_of(
            ttl=ttl,
            tags=tags,
            ignore=ignored,
            refresh_ahead=refresh_ahead,
            stale_on_error=stale_on_error,
            negative_ttl=negative_ttl,
            cache_errors=cache_errors,
            warm_after_invalidation=warm_after_invalidation,
        )

        def decorate(function: Callable[..., Any]) -> Any:
            own_name = f"{function.__module__}.{function.__qualname__}"
            name = namespace or own_name
            if (owner := self._owners.setdefault(name, own_name)) != own_name:
                raise SettingsError(f"the namespace {name!r} is that of {owner}: they would share values")
            key_of = key or CallKeys(function, ignored)
            make = Cached if self._shared is None else self._shared.cached
            made = make(function, self._store(name), options, namespace=name, key_of=key_of)
            if made.rewarmer is not None:
                self._tokens.listeners.append(made.rewarmer.settled)
            if self._auditor is None or not audit or ignored:
                return handle(made)
            subject = Subject(function, made, self._store(name), name)
            return handle(made, partial(self._auditor.around, subject))

        return cast("Decorator", decorate)

    def entities(
        self,
        model: type[_Model],
        *,
        ttl: Duration | None = None,
        options: Sequence[ORMOption] = (),
        vary: Callable[[Session], Hashable] | None = None,
        namespace: str | None = None,
    ) -> Entities[_Model]:
        """Return objects of a mapped class, by key and by statement, each session's own: see `Entities`.

        Args:
            model: the mapped class.
            ttl: how long an object is served at most, as in `cached`.
            options: loader options that objects are loaded with, such as `selectinload(Product.reviews)`.
            vary: returns what else of a session decides what it may see, such as its tenant.
            namespace: the name under which they are kept and counted; the class's where none is given.

        Raises:
            SettingsError: `ttl` is no duration.
        """
        return Entities(self, model, ttl=ttl, options=options, vary=vary, namespace=namespace)

    @contextmanager
    def loading(self, *, tables: Iterable[str] = (), tags: Iterable[str] = ()) -> Iterator[None]:
        """Note what is read in the length of a `with` block, for what is kept in it by `set`.

        A value that is set depends on all that has been read in the block so far, as of before it was read.

        Args:
            tables: tables that will be read. They have to be told where a transaction sees one snapshot
                throughout: under `REPEATABLE READ` and `SERIALIZABLE`, and with SQLite always.
            tags: names for `invalidate` that everything depends on which is set in the block.

        Example:
            >>> cache = Cache()
            >>> with cache.loading(tags=["rates"]):
            ...     for currency, rate in {"TWD": 32.5, "JPY": 157.2}.items():  # as read from somewhere
            ...         _ = cache.set(currency, rate)
            >>> cache.get("TWD")
            32.5
            >>> cache.invalidate("rates")
            >>> cache.get("TWD")
        """
        early = [EVERYTHING, *map(table_tag, tables)]
        mine = Reading(self._tokens, self._now(), early, CURRENT.get())
        mine.need([name_tag(tag) for tag in tags])
        with reading(mine):
            yield

    def get(self, key: str, default: Any = None, *, namespace: str = NAMESPACE) -> Any:
        """Return the value that is kept under a name and holds, or `default`."""
        return self._values.get(key, default, namespace)

    def set(
        self,
        key: str,
        value: Any,
        *,
        ttl: Duration | None = None,
        tags: Iterable[str] = (),
        namespace: str = NAMESPACE,
    ) -> bool:
        """Keep a value under a name.

        Within `loading`, or in a cached function, it depends on what has been read there. Outside of that it
        is taken to be right as of now, and depends on its tags alone.

        Args:
            key: the name.
            value: the value.
            ttl: how long it is served at most, as in `cached`.
            tags: names that it depends on from now on, for `invalidate`.
            namespace: where the name stands for this value, and under which it is counted.

        Returns:
            Whether it is kept: not where what it depends on is being written, or has been since; nor within
            a transaction that has written.

        Raises:
            CacheKeyError: the name is no text, or too long.
            SettingsError: `ttl` is no duration.

        Example:
            >>> cache = Cache()
            >>> cache.set("rate:TWD", 32.5, ttl="5m", tags=["rates"])
            True
            >>> cache.get("rate:TWD"), cache.get("rate:JPY")
            (32.5, None)
        """
        return self._values.set(key, value, ttl, tags, namespace)

    def get_many(self, keys: Iterable[str], *, namespace: str = NAMESPACE) -> dict[str, Any]:
        """Return the values of those names under which one is kept that holds."""
        return self._values.get_many(keys, namespace)

    def set_many(
        self,
        values: Mapping[str, Any],
        *,
        ttl: Duration | None = None,
        tags: Iterable[str] = (),
        namespace: str = NAMESPACE,
    ) -> int:
        """Keep each value under its name, as `set` does; return how many are kept."""
        return self._values.set_many(values, ttl, tags, namespace)

    def delete(self, key: str, *, namespace: str = NAMESPACE) -> bool:
        """Drop the value of a name; return whether there was one."""
        return self._values.delete(key, namespace)

    def delete_matching(self, pattern: str) -> int:
        """Drop the entries whose names match a pattern; return how many there were.

        Those in this process, or those in Redis where that is used; what other processes have in memory of
        cached functions they keep as long as it holds.

        What is being loaded for such names is not kept. Each entry is looked at once.

        Args:
            pattern: a name where `*` stands for any characters, `?` for one, and `[ab]` for one of these.
                Entries of a function or a namespace are named `namespace:key`.

        Example:
            >>> cache = Cache()
            >>> cache.set_many({"orders:1": "noodles", "orders:2": "rice", "rate": 32.5})
            3
            >>> cache.delete_matching("orders:*"), cache.get("rate")
            (2, 32.5)
        """
        return self._values.delete_matching(pattern)

    def delete_namespace(self, namespace: str) -> int:
        """Serve nothing any more of a namespace, and drop its entries; return how many there were."""
        store = self._store(namespace)
        store.renew([namespace_tag(namespace)])
        return len(store.delete(lambda key: key[0] == namespace))

    def invalidate(self, *tags: str) -> None:
        """Serve nothing any more that depends on one of these tags, which `cached` or `set` was given."""
        self._store(NAMESPACE).renew(map(name_tag, tags))

    def clear(self) -> None:
        """Drop every entry of this process and of Redis, and keep nothing of what this process is loading."""
        self._flights.disown(lambda _: True)
        self._memory.clear()
        if self._shared is not None:
            self._shared.clear()

    def warm(
        self,
        function: Callable[..., Any],
        calls: Calls,
        *,
        concurrency: int = CONCURRENCY,
        progress: Progress | None = None,
    ) -> Warmed:
        """Call a cached function with arguments that will be asked for; return when all calls have ended.

        Calls that fail are counted, and stop nothing. To warm at the start of an application, or at
        intervals, or a function that is awaited, see `AsyncCache.warm` and `AsyncCache.warming`.

        Args:
            function: the function, which is not awaited.
            calls: the arguments of each call: one argument, a tuple of several, or a dictionary by name. Or
                a function that returns them.
            concurrency: calls at once, each in a thread.
            progress: is called with a `Warmed` whenever a call has ended.

        Raises:
            TypeError: the function is awaited.

        Example:
            >>> cache = Cache()
            >>> @cache.cached()
            ... def double(number):
            ...     return 2 * number
            >>> cache.warm(double, [1, 2, "no number", None]).failed
            1
            >>> double.get(2)
            4
        """
        return warm(function, calls, concurrency=concurrency, progress=progress)

    def statistics(self) -> dict[str, Statistics]:
        """Return what has been counted until now, by namespace."""
        return {
            namespace: replace(
                counted,
                refused=dict(counted.refused),
                entries=usage.entries if (usage := self._memory.usage.get(namespace)) else 0,
                bytes=usage.bytes if usage else 0,
                hit_seconds=self._time_of_hit(usage.latest if usage else None),
            )
            for namespace, counted in tuple(self._statistics.items())
        }

    @property
    def watched(self) -> tuple[Engine, ...]:
        """The engines whose statements it sees, the sync ones in async ones."""
        return tuple(self._watched)

    def state(self) -> CacheState:
        """Return where its tokens are, what it watches and hears, and how Redis is. Nobody is asked for it.

        Example:
            >>> cache = Cache()
            >>> cache.state().place, cache.state().entries
            ('process', 0)
        """
        watched = [each.url.render_as_string(hide_password=True) for each in self._watched]
        return CacheState(
            place="redis" if self._shared is not None else "page" if self._page else "process",
            page=self._page,
            entries=len(self._memory.entries),
            bytes=self._memory.bytes,
            watched=tuple(dict.fromkeys(watched)),
            faults=self._carrier.faults if isinstance(self._carrier, PageTokens) else 0,
            redis=None if self._shared is None else self._shared.state(),
            listeners=tuple(
                ListenerState(each.place, each.is_listening, each.heard, each.faults)
                for each in self._listeners
            ),
        )

    def close(self) -> None:
        """Let go of the engines, and drop every entry. Calling it twice does nothing more.

        From then on writes are not seen, so nothing is kept any more. What waits to be flushed is, before.
        """
        self.writes.close()
        for hooks in self._hooks:
            hooks.close()
        for listener in self._listeners:
            listener.close()
        self._hooks.clear()
        self._watched.clear()
        self._listeners.clear()
        if self._auditor is not None:
            self._auditor.close()
        self._background.close()
        self._memory.close()
        if self._shared is not None:
            self._shared.close()

    @property
    def is_shared(self) -> bool:
        """Whether values and tokens are in Redis."""
        return self._shared is not None

    def _store(self, namespace: str) -> Store:
        statistics = self._statistics_of(namespace)
        return Store(self._tokens, self._memory, self._now, self._flights, self._background, statistics)

    def _time_of_hit(self, key: Key | None) -> float:
        # Not in Redis: whoever asks for statistics must not wait for it.
        return nan if self._shared is not None else time_of_hit(self._memory, self._tokens, key)

    def _statistics_of(self, namespace: str) -> Statistics:
        counted = self._statistics.get(namespace)
        if counted is None:
            name = namespace if len(self._statistics) < MAX_NAMESPACES else OTHERS
            counted = self._statistics.setdefault(name, Statistics())
        return counted

    def _count_eviction(self, entry: Entry) -> None:
        self._statistics_of(entry.key[0]).evictions += 1


def _in_redis(
    redis: Any, name: str, lease: float, timeout: float, unreachable: Literal["wait", "refuse"]
) -> InRedis:
    from upshift.cache.redis import InRedis, Timing

    return InRedis(redis, name=name, lease=lease, timing=Timing(answer=timeout), unreachable=unreachable)
