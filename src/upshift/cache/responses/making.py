"""One answer that the application makes: what it depends on, whether it is stored, and what is sent."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack, contextmanager
from math import inf
from random import random
from time import monotonic, perf_counter, time
from typing import TYPE_CHECKING

from upshift.cache.dependencies import CURRENT, reading
from upshift.cache.functions import JITTER, name_tag, namespace_tag
from upshift.cache.functions.flights import Load
from upshift.cache.memory import Entry
from upshift.cache.responses.directives import age_of, directives, lifetime_of
from upshift.cache.responses.held import BODY
from upshift.cache.responses.keys import MAX_KEY, length_of
from upshift.cache.responses.storable import additions, is_public, refusal_of
from upshift.cache.responses.stored import Stored, joined, storable_headers
from upshift.cache.responses.validators import is_current

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from starlette.types import Message, Scope

    from upshift.cache.responses.asked import Asked, Reader
    from upshift.cache.responses.shelf import Shelf
    from upshift.cache.responses.unstored import Unstored

WRITTEN = "the request writes"
NOT_PREPARED = "it is not known what it depends on"


def path_tag(path: str) -> str:
    """Return the tag of all answers for a path: who changes something there ends them (RFC 9111 §4.4)."""
    return f"path:{path}"


def told_tags(asked: Asked) -> tuple[str, ...]:
    """Return the tags that the answer to a request depends on, whatever the application reads for it."""
    names = map(name_tag, asked.rule.tags_of(asked.path))
    return (namespace_tag(asked.rule.pattern), path_tag(asked.path), *names)


class Making:
    """Follows the application's answer to one request.

    Args:
        asked: the request.
        scope: its scope, as the application has it.
        reader: reads requests.
        shelf: where the answer goes.
        unstored: remembers whether it is stored.
        route_of: tells the route of a scope.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - one call site
        self,
        asked: Asked,
        scope: Scope,
        reader: Reader,
        shelf: Shelf,
        unstored: Unstored,
        route_of: Callable[[Scope], str | None],
    ) -> None:
        rule = asked.rule
        self._asked = asked
        self._scope = scope
        self._store = rule.store
        self._reader = reader
        self._shelf = shelf
        self._unstored = unstored
        self._route_of = route_of
        self._fields: dict[bytes, bytes] = {}
        self._said: Mapping[str, str] = {}
        self._entry: Entry | None = None
        self._told = told_tags(asked)
        self._gathering = shelf.gathering(rule, CURRENT.get())
        self._flight = ExitStack()
        self._load = Load(asyncio.Event(), asyncio.get_running_loop(), self._gathering, self._told)

    @contextmanager
    def under_way(self) -> Iterator[None]:
        """Gather what is read, and let others wait for the answer, in the length of a `with` block."""
        asked, statistics, began = self._asked, self._store.statistics, perf_counter()
        is_shared = not asked.named_by and asked.key not in self._unstored
        key = (asked.rule.pattern, asked.key)
        statistics.misses += 1
        try:
            with self._flight, reading(self._gathering):
                if is_shared:
                    self._flight.enter_context(self._store.flights.under_way(key, self._load))
                yield
        except Exception:
            statistics.errors += 1
            raise
        finally:
            statistics.loads.add(perf_counter() - began)

    async def prepare(self) -> None:
        """Stamp what the answer surely depends on, and what it is likely to: before the application runs."""
        await self._shelf.call(self._shelf.stamp, self._asked.rule, self._gathering, self._told)

    async def end(self) -> None:
        """Take the answer back where the application has written since it was complete."""
        if self._entry is not None and self._gathering.has_written_since:
            self._refuse(WRITTEN)
            await self._shelf.call(self._shelf.drop, self._asked.rule, self._entry)

    def begins(self, start: Message) -> bool:
        """Take the start of the answer, and tell whether the rest is wanted."""
        self._fields = joined(start.get("headers", ()))
        self._said = directives(self._fields.get(b"cache-control", b"").decode("latin-1"))
        refusal = refusal_of(start, self._fields, self._said, self._asked)
        if refusal:
            self._refuse(refusal)
        return not refusal

    def may_hold(self, size: int, *, is_whole: bool) -> bool:
        """Whether so many bytes of the body, all of it or not, may be held."""
        rule, declared = self._asked.rule, self._fields.get(b"content-length")
        if size > rule.max_bytes:
            self._refuse("it is too large")
        elif not is_whole and declared is None and not rule.streams:
            self._refuse("it is a stream")
        elif is_whole and declared is not None and int(declared) != size:
            self._refuse("its length is another than it says")
        else:
            return True
        return False

    async def completes(self, start: Message, body: bytes) -> tuple[Message, Message]:
        """Take the whole answer, store it if it may be, and return the messages to send."""
        headers = [*start.get("headers", ())]
        headers += additions(start["status"], self._fields, body, self._asked)
        stored = Stored.of(
            start["status"],
            storable_headers(headers, self._fields),
            body,
            made=time() - age_of(self._fields),
            is_public=is_public(self._said),
            route=self._route_of(self._scope),
        )
        await self._shelf.call(self._keep, stored)
        if is_current(self._asked.fields, stored):
            return stored.not_modified(), {"type": BODY, "body": b""}
        return {**start, "headers": headers}, {"type": BODY, "body": body}

    def _keep(self, stored: Stored) -> None:
        gathering, rule = self._gathering, self._asked.rule
        gathering.is_complete = True
        rule.expect(frozenset(gathering.expected.difference(self._told)))
        key = self._reader.key_now(self._asked, self._scope)
        length, seconds = length_of(key), self._seconds()
        refusal = gathering.refusal or ("" if gathering.tags.issuperset(self._told) else NOT_PREPARED)
        if refusal:
            self._refuse(refusal, is_lasting=False)
            return
        if length > MAX_KEY or seconds <= 0:
            self._refuse("its key is too long" if seconds > 0 else "it is stale at once")
            return
        made, size = monotonic(), stored.size + length
        entry = Entry((rule.pattern, key), stored, gathering.stamp, gathering.tags, made + seconds, size)
        entry.made = made
        self._entry = self._load.entry = self._shelf.keep(rule, entry, self._load)
        self._unstored.note(self._asked.key, is_stored=True)
        self._flight.close()

    def _seconds(self) -> float:
        rule = self._asked.rule
        ours = inf if rule.seconds is None else rule.seconds * (1 - JITTER * random())  # noqa: S311 - no secret
        is_shared = self._asked.identity is None
        return min(ours, lifetime_of(self._said, self._fields, is_shared=is_shared, now=time()))

    def _refuse(self, reason: str, *, is_lasting: bool = True) -> None:
        self._store.statistics.refuse(reason)
        if is_lasting:
            self._unstored.note(self._asked.key, is_stored=False)
        self._flight.close()  # whoever waits need not wait for all of it
