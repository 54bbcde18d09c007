"""What an application has of its cache beside values: metrics, a health check, answers to its operators."""

from __future__ import annotations

import gc
import os
from typing import TYPE_CHECKING, Annotated

import msgspec
from sqlalchemy.engine import Engine

from upshift.application.cache_metrics import CacheMetrics
from upshift.cache.document import Choice, Document, namespaces_of
from upshift.cache.request import REQUEST
from upshift.sql.engines import is_own
from upshift.telemetry.health.checks import TypedCheck
from upshift.telemetry.local import LocalEndpoint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from contextvars import ContextVar

    from starlette.types import ASGIApp, Receive, Scope, Send

    from upshift.cache import Cache
    from upshift.record import Record
    from upshift.settings import Settings
    from upshift.sql import Replicas
    from upshift.telemetry import Health, Lifespan, Metrics

CHECK = "upshift-cache"
"""The name of the health check; an application's own may be called `cache`."""

MAX_UNWATCHED = 50
"""Engines that the cache does not watch, of which is told."""

_Names = Annotated[
    list[Annotated[str, msgspec.Meta(min_length=1, max_length=1_000)]], msgspec.Meta(max_length=100)
]


class Ended(msgspec.Struct, forbid_unknown_fields=True):
    """What is to be served no more.

    Attributes:
        tags: names that `cached` or `set` was given.
        namespaces: namespaces, of which all entries are dropped as well.
    """

    tags: _Names = []
    namespaces: _Names = []


class Caching:
    """Tells of a cache, and ends values for whoever may ask on this machine.

    Args:
        cache: the cache.
        settings: all settings.
        metrics: where it is counted.
        has_workers: tells whether the process is one of several.

    Attributes:
        cache: the cache.
        paths: what answers GET.
        commands: what answers POST.
    """

    def __init__(
        self, cache: Cache, settings: Settings, metrics: Metrics, has_workers: Callable[[], bool]
    ) -> None:
        self.cache = cache
        self._service = settings.telemetry.service
        self._has_workers = has_workers
        self._told = LocalEndpoint(self._tell)
        self._ended = LocalEndpoint(self._end, changes=True)
        path = settings.cache.cache_path
        self.paths: dict[str, ASGIApp] = {path: self._told} if path else {}
        self.commands: dict[str, ASGIApp] = {f"{path}/invalidate": self._ended} if path else {}
        if settings.telemetry.metrics:
            CacheMetrics(metrics, cache.statistics, cache.state, cache.writes.statistics)

    def begin(
        self, engines: Iterable[Engine], replicas: Replicas | None, lifespan: Lifespan, health: Health
    ) -> None:
        """Have the engines watched, what is written by way of the cache flushed, and its Redis checked."""
        cache, lagging = self.cache, replicas.engines[1:] if replicas else ()
        cache.watch(each for each in engines if each not in lagging)
        cache.watch(lagging, may_lag=True)
        lifespan.add("upshift-writes", cache.writes.start, cache.writes.close)
        if cache.is_shared:
            health.check(CHECK, TypedCheck(self._check, "datastore"), critical=False)

    def around(
        self, app: ASGIApp, current: ContextVar[Record | None], route_of: Callable[[Scope], str | None]
    ) -> ASGIApp:
        """Return what answers in the place of an application, from what is stored where it can."""
        return self.cache.responses.around(_noted(app, current), current, route_of)

    def faults(self) -> dict[str, Callable[[], int]]:
        """Return for each part how to tell its faults."""
        cache = self.cache
        return {
            "responses": lambda: cache.responses.faults,
            "writes": lambda: cache.writes.faults,
            "cache": self._faults,
        }

    def _faults(self) -> int:
        """Answers that could not be made, and what went wrong where tokens live."""
        state = self.cache.state()
        unannounced = state.redis.unannounced if state.redis is not None else 0
        listening = sum(each.faults for each in state.listeners)
        return self._told.faults + self._ended.faults + state.faults + unannounced + listening

    async def _check(self) -> str:
        """Tell how the circuit is. Functions run uncached while it is open, so this is never critical.

        Raises:
            ConnectionError: it is open.
        """
        redis = self.cache.state().redis
        if redis is None:
            return "closed"
        if not redis.is_usable:
            raise ConnectionError(f"the circuit is open, functions run uncached: {redis.reason}")
        return f"the circuit is closed, it was opened {redis.openings} times"

    def _tell(self, query: Mapping[str, str]) -> bytes:
        choice = msgspec.convert(query, Choice, strict=False)
        counted = self.cache.statistics()
        return msgspec.json.encode(
            Document(
                version=1,
                service=self._service,
                pid=os.getpid(),
                has_workers=self._has_workers(),
                state=self.cache.state(),
                namespaces=namespaces_of(counted, choice),
                known=len(counted),
                unwatched=_unwatched(self.cache.watched) if choice.engines else None,
            )
        )

    def _end(self, query: Mapping[str, str]) -> bytes:
        try:
            ended = msgspec.json.decode(query.get("request", ""), type=Ended)
        except msgspec.ValidationError:
            raise
        except msgspec.DecodeError as error:
            raise msgspec.ValidationError(f"the request is no JSON: {error}") from error
        if ended.tags:
            self.cache.invalidate(*ended.tags)
        dropped = sum(self.cache.delete_namespace(each) for each in ended.namespaces)
        return msgspec.json.encode({"version": 1, "pid": os.getpid(), "dropped": dropped})


def _noted(app: ASGIApp, current: ContextVar[Record | None]) -> ASGIApp:
    """Return an application in which the cache knows whose requests it answers."""

    async def noted(scope: Scope, receive: Receive, send: Send) -> None:
        token = REQUEST.set(current.get())
        try:
            await app(scope, receive, send)
        finally:
            REQUEST.reset(token)

    return noted


def _unwatched(watched: Iterable[Engine]) -> tuple[str, ...]:
    """Return the engines in this process whose statements a cache does not see.

    An engine with other options (`execution_options`) has the pool of the one that it was made from, and its
    events. To look through all objects takes some milliseconds, so it is done for who asks only.
    """
    pools = {id(each.pool) for each in watched}
    engines = [each for each in gc.get_objects() if issubclass(type(each), Engine) and not is_own(each)]
    names = [each.url.render_as_string(hide_password=True) for each in engines if id(each.pool) not in pools]
    return tuple(dict.fromkeys(names))[:MAX_UNWATCHED]
