"""The ASGI middleware that answers from what is stored, before the application runs, and stores what it says.

It stands outside of compression, so what is stored is encoded, once for each encoding that clients ask for,
and a hit neither serializes nor compresses. It stands inside of the recorder, so each answer has a request
id, a log line and metrics of its own.
"""

from __future__ import annotations

import asyncio
from functools import partial
from time import monotonic, perf_counter, time
from typing import TYPE_CHECKING, Any

from upshift.cache.dependencies import CURRENT, WRITING, written_here
from upshift.cache.responses.asked import Reader
from upshift.cache.responses.directives import ANYTHING
from upshift.cache.responses.faults import Faults
from upshift.cache.responses.held import BODY, START, Held, without_body
from upshift.cache.responses.keys import canonical_query
from upshift.cache.responses.making import Making, path_tag, told_tags
from upshift.cache.responses.stored import age_field
from upshift.cache.responses.unstored import Unstored
from upshift.cache.responses.validators import is_current

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import ContextVar

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from upshift.cache.memory import Entry
    from upshift.cache.responses.asked import Asked
    from upshift.cache.responses.rules import Rule, Rules
    from upshift.cache.responses.shelf import Shelf
    from upshift.cache.responses.stored import Stored
    from upshift.record import Record

_READING = frozenset({"GET", "HEAD"})
_SAFE = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
_CONDITIONS = frozenset({b"if-none-match", b"if-modified-since"})
_AMPERSAND = ord("&")
_FAILED = 400
_GATEWAY_TIMEOUT = b"Gateway Timeout"
# Without a call's look for a method.
_reading, _writing = CURRENT.get, WRITING.get


class AnswersFromStore:
    """Answers the requests of one application.

    Args:
        app: the application.
        rules: what is stored; looked at for each request, as there may be more of them later.
        place: tells applications apart that share a cache.
        shelf: where what is stored is.
        current: holds the record of the running request, which is told of hits.
        route_of: tells the route of a scope that the application has had.

    Attributes:
        faults: counts the times when what is stored could not be looked at, or an answer not be stored.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - one call site
        self,
        app: ASGIApp,
        rules: Rules,
        place: int,
        shelf: Shelf,
        current: ContextVar[Record | None] | None = None,
        route_of: Callable[[Scope], str | None] = lambda _: None,
    ) -> None:
        self.faults = Faults()
        self._app = app
        self._rules = rules
        self._place = place
        self._shelf = shelf
        self._reader = Reader(place)
        self._unstored = Unstored()
        self._current = current
        self._route_of = route_of

    # All that a hit takes is here, in `_quick` and in the tokens: each call costs a tenth of it.
    async def __call__(  # noqa: C901, PLR0912 - see above
        self, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Answer, or hand on to the application."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"]
        if root := scope.get("root_path"):
            path = path.removeprefix(root)
        try:
            rule = self._rules.known[path]
        except KeyError:
            rule = self._rules.find(path)
        if rule is None:
            await self._app(scope, receive, send)
            return
        method = scope["method"]
        if method not in _READING:
            if method not in _SAFE:
                send = self._forgetting(rule, path, send)
            await self._app(scope, receive, send)
            return
        stored, start, app = None, None, self._app
        try:
            stored = self._quick(rule, scope)
            if stored is None:
                stored, start, app = await self._look(rule, path, scope)
        except Exception as error:  # noqa: BLE001 - told by what counts it
            self.faults.note(error)
        if stored is None:
            await app(scope, receive, send)
            return
        if stored.route is not None:
            scope["path_template"] = stored.route  # the application, which would have found it, does not run
        if self._current is not None and (record := self._current.get()) is not None:
            record.cache_hits += 1
            record.cache_seconds += perf_counter() - record.started
        body = b""
        if start is None:
            # All new each time: what stands outside may change them.
            headers = [*stored.headers, age_field(int(time() - stored.made))]
            start = {"type": START, "status": stored.status, "headers": headers}
            if method == "GET":
                body = stored.body
        await send(start)
        await send({"type": BODY, "body": body})

    def _quick(self, rule: Rule, scope: Scope) -> Stored | None:
        """Return what answers a request as most are: that asks for nothing special, of what holds."""
        if rule.identity is not None:
            return None
        query = scope["query_string"]
        if _AMPERSAND in query:
            query = canonical_query(query)
        free, places = rule.layout
        key = [self._place, scope["scheme"], scope["path"], query, None, *free]
        for name, value in scope["headers"]:
            if name in places:
                place = places[name]
                if key[place] is not None:
                    return None
                key[place] = value
        store = rule.store
        holds = store.tokens.holds
        entry = store.memory.entries.get((rule.pattern, tuple(key)))
        if (
            entry is None
            or entry.expires <= monotonic()
            or not (entry.leased > monotonic() if self._shelf.is_remote else holds(entry.stamp))
            or _reading() is not None
            or _writing()
        ):
            return None
        entry.reads += 1
        store.statistics.hits += 1
        stored: Stored = entry.value
        return stored

    async def _look(
        self, rule: Rule, path: str, scope: Scope
    ) -> tuple[Stored | None, Message | None, ASGIApp]:
        """Return what answers a request, and the start of a 304 where that will do; or who has to answer."""
        asked = self._reader.read(rule, path, scope)
        if asked is None:
            rule.store.statistics.bypassed += 1
            return None, None, self._app
        entry = await self._shelf.call(self._find, asked) or await self._joined(asked, scope)
        if entry is None:
            if asked.wish.only_stored:
                return None, None, _has_nothing
            # From here to its flight nothing gives way, so that of all who miss one makes the answer.
            making = Making(asked, scope, self._reader, self._shelf, self._unstored, self._route_of)
            return None, None, partial(self._make, making)
        stored: Stored = entry.value
        if not _CONDITIONS.isdisjoint(asked.fields) and is_current(asked.fields, stored):
            asked.rule.store.statistics.not_modified += 1
            return stored, stored.not_modified(), self._app
        return stored, None, self._app

    def _find(self, asked: Asked) -> Entry | None:
        """Return what answers a request; None where nothing does."""
        rule = asked.rule
        entry = rule.store.memory.entries.get((rule.pattern, asked.key))
        if entry is not None and not self._holds(entry, asked):
            entry = None
        if entry is None and self._shelf.is_remote:
            entry = self._shelf.fetch(rule, asked.key, told_tags(asked))
            # It held when it was fetched; within another reading it has to after that knows of it.
            if entry is not None and CURRENT.get() is not None and not self._holds(entry, asked):
                entry = None
        if entry is None or not _suits(entry, asked):
            return None
        rule.store.statistics.hits += 1
        return entry

    def _holds(self, entry: Entry, asked: Asked) -> bool:
        """Whether an answer may be given to anybody."""
        memory, statistics = asked.rule.store.memory, asked.rule.store.statistics
        outer = CURRENT.get()
        if outer is not None:
            outer.need(entry.tags)  # first: what is written after this is not in the answer
        if entry.expires <= monotonic():
            statistics.expired += 1
            memory.remove(entry)
            return False
        is_held = self._shelf.holds(asked.rule, entry)
        if is_held is False:
            statistics.stale_prevented += 1
            memory.remove(entry)
        return bool(is_held)

    async def _joined(self, asked: Asked, scope: Scope) -> Entry | None:
        """Wait for another's answer to the same; None where the request has to have its own."""
        if asked.named_by or not asked.wish.may_reuse:
            return None
        flights, loop = asked.rule.store.flights, asyncio.get_running_loop()
        while (other := flights.in_loop((asked.rule.pattern, asked.key), loop)) is not None:
            await other.done.wait()
            if other.is_cancelled:
                entry = await self._shelf.call(self._find, asked)  # of one who waited as well
                if entry is not None:
                    return entry
                continue
            entry, key = other.entry, self._reader.key_now(asked, scope)
            if (
                entry is None
                or entry.key[1] != key
                or not await self._shelf.call(self._holds, entry, asked)
                or not _suits(entry, asked)
            ):
                return None
            asked.rule.store.statistics.joined += 1
            return entry
        return None

    async def _make(self, making: Making, scope: Scope, receive: Receive, send: Send) -> None:
        """Have the application answer, as if it were asked by GET and without conditions."""
        headers, is_head = scope["headers"], scope["method"] == "HEAD"
        # The server looks at the method while it sends.
        inner: Any = {**scope, "method": "GET"} if is_head else scope
        inner["headers"] = [each for each in headers if each[0] not in _CONDITIONS]
        held = Held(without_body(send) if is_head else send, making, self.faults)
        try:
            with making.under_way():
                with self.faults:
                    await making.prepare()
                await self._app(inner, receive, held.send)
                await held.release()
        finally:
            # Outer middleware reads in the scope what the router leaves there.
            if is_head:
                scope.update({**inner, "method": "HEAD"})
            scope["headers"] = headers
            with self.faults:
                await making.end()

    def _forgetting(self, rule: Rule, path: str, send: Send) -> Send:
        """End the answers for a path when something else than reading has been done there."""

        async def forgetting_send(message: Message) -> None:
            if message["type"] == START and message["status"] < _FAILED:
                with self.faults:
                    await self._shelf.call(rule.store.renew, [path_tag(path)])
            await send(message)

        return forgetting_send


async def _has_nothing(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001 - an application
    """Answer who wants nothing but what is stored (RFC 9111 §5.2.1.7)."""
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", b"%d" % len(_GATEWAY_TIMEOUT)),
        (b"cache-control", b"no-store"),
    ]
    await send({"type": START, "status": 504, "headers": headers})
    await send({"type": BODY, "body": _GATEWAY_TIMEOUT})


def _suits(entry: Entry, asked: Asked) -> bool:
    """Whether an answer that holds may be given to a request, and is what it wants; it is read then."""
    if WRITING.get() and not written_here().isdisjoint(entry.tags):
        asked.rule.store.statistics.bypassed += 1
        return False
    wish, stored = asked.wish, entry.value
    if asked.named_by and not stored.is_public:
        return False
    if wish is not ANYTHING and not (
        wish.may_reuse and _age(stored) <= wish.max_age and entry.expires - monotonic() >= wish.min_fresh
    ):
        return False
    entry.reads += 1
    return True


def _age(stored: Stored) -> float:
    return max(0.0, time() - stored.made)  # the clock may have been set back
