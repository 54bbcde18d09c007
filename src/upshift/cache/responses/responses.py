"""What an application tells of its responses, and the middleware that acts on it."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING
from weakref import WeakSet

from upshift.cache.durations import seconds_of
from upshift.cache.responses.middleware import AnswersFromStore
from upshift.cache.responses.rules import Rule, Rules
from upshift.cache.responses.shelf import Shelf

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable
    from contextvars import ContextVar

    from starlette.requests import Request
    from starlette.types import ASGIApp, Scope

    from upshift.cache.durations import Duration
    from upshift.cache.functions import Store
    from upshift.cache.redis.shared import Shared
    from upshift.record import Record

MAX_BYTES = 1 << 20
"""Bytes of a body that is stored, at most."""


class Responses:
    """The responses that a cache keeps; reached as `cache.responses`, which is called for each kind.

    Args:
        store_of: what is stored in, with the statistics of a namespace.
        shared: what the cache shares with other processes; None where that is nothing.
    """

    def __init__(self, store_of: Callable[[str], Store], shared: Shared | None = None) -> None:
        self._store_of = store_of
        self._shelf = Shelf(shared)
        self._rules = Rules()
        self._places = count()
        self._middlewares: WeakSet[AnswersFromStore] = WeakSet()

    def __call__(  # noqa: PLR0913 - all but the pattern by name
        self,
        pattern: str,
        *,
        ttl: Duration | None = None,
        identity: Callable[[Request], Hashable] | None = None,
        vary: Iterable[str] = (),
        tags: Iterable[str] = (),
        statuses: Iterable[int] = (200,),
        max_bytes: int = MAX_BYTES,
        streams: bool = False,
        cookies: bool = False,
    ) -> None:
        """Store the responses to GET for some paths, and answer GET and HEAD with them.

        They are invalidated by the SQL that changes what the application read for them. A request that
        writes is never stored. The first pattern that fits counts.

        Args:
            pattern: the paths: `*` stands for anything, `{name}` for one part between slashes.
            ttl: how long one is given at most, though nothing it depends on is written; each a little
                shorter, by chance. None for no limit but what its Cache-Control says.
            identity: tells for whom the response to a request is, such as a session's user. Without it, and
                where it tells None, requests with cookies or Authorization are left to the application.
            vary: names of request header fields that they depend on, beside those that they name in `Vary`.
            tags: further names that they depend on, for `invalidate`; `{name}` stands for that part of the
                path.
            statuses: the HTTP statuses that are stored.
            max_bytes: the size of a body at most.
            streams: store bodies that come in pieces without a Content-Length too, once they are complete.
            cookies: store responses that set cookies, and set them for everybody who is given one.

        Raises:
            SettingsError: the pattern is no path, a tag names what is not in it, a status cannot be stored,
                or `ttl` is no duration.

        Example:
            >>> from upshift import Cache
            >>> cache = Cache()
            >>> cache.responses("/products/{id}", ttl="5m", tags=["product:{id}"])
            >>> cache.close()
        """
        rule = Rule(
            pattern,
            seconds=None if ttl is None else seconds_of(ttl),
            identity=identity,
            vary=vary,
            tags=tags,
            statuses=statuses,
            max_bytes=max_bytes,
            streams=streams,
            cookies=cookies,
            store=self._store_of(pattern),
        )
        self._rules.add(rule)

    @property
    def faults(self) -> int:
        """Times when what is stored could not be looked at, or a response not be stored."""
        return sum(each.faults.count for each in self._middlewares)

    def around(
        self,
        app: ASGIApp,
        current: ContextVar[Record | None] | None = None,
        route_of: Callable[[Scope], str | None] = lambda _: None,
    ) -> ASGIApp:
        """Return an application that answers with what is stored, and else as `app` does.

        `Upshift` does this for its own application.

        Args:
            app: the application.
            current: holds the record of the running request, which is told of hits.
            route_of: tells the route of a scope that the application has had.
        """
        middleware = AnswersFromStore(app, self._rules, next(self._places), self._shelf, current, route_of)
        self._middlewares.add(middleware)
        return middleware
