"""Loads the values of one function for all processes, and keeps those that may be kept."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Any

from upshift.cache.codec import COMPRESS_FROM, Copies, codec_for, return_annotation_of
from upshift.cache.dependencies import CURRENT, Reading, whole_tables, written_here
from upshift.cache.dependencies.names import is_row
from upshift.cache.functions.entries import entry_of, value_of
from upshift.cache.functions.flights import Load
from upshift.cache.functions.kept_errors import KeptError
from upshift.cache.functions.loader import MAX_EXPECTED, NOT_COPIED, Loader
from upshift.cache.functions.store import Dependence
from upshift.cache.redis.shared import NOT_HELD, inherit
from upshift.errors import CodecError

if TYPE_CHECKING:
    from collections.abc import Callable

    from upshift.cache.functions.calls import Call
    from upshift.cache.functions.options import Options
    from upshift.cache.functions.store import Store
    from upshift.cache.memory import Entry
    from upshift.cache.redis.remote import Steps
    from upshift.cache.redis.shared import Shared
    from upshift.cache.redis.tier import Found
    from upshift.cache.redis.tokens import Item

logger = logging.getLogger("upshift.cache")

MEMORY_PER_BYTE = 3
"""About how many bytes a value takes in memory for each that it has in Redis."""

MAX_LIKELY = 16
"""Tags whose tokens are asked for with an entry."""


class SharedLoad(Load[Any]):
    """A load that others may wait for.

    Attributes:
        began: when it began, in seconds of the process's clock.
        kept: when its entry, if it has one, was about to be looked at: it held then, or later.
        claim: the name under which it has claimed its key; empty where it has not.
        brought: what it has brought, whether that is kept or not.
    """

    def __init__(self, done: Any, owner: Any, reading: Reading, told: tuple[str, ...]) -> None:
        super().__init__(done, owner, reading, told)
        self.began = monotonic()
        self.kept = 0.0
        self.claim = ""
        self.brought: Entry | None = None


class SharedLoader(Loader):
    """Loads for one function.

    Args:
        function: the function, sync or async.
        store: what it works with.
        options: how its values are kept.
        namespace: the first part of its keys.
        shared: what all processes share.
    """

    def __init__(
        self, function: Callable[..., Any], store: Store, options: Options, namespace: str, shared: Shared
    ) -> None:
        super().__init__(function, store, options, namespace)
        self._shared = shared
        self._also: tuple[str, ...] = ()
        self._has_refused = False
        self._codec = codec_for(return_annotation_of(function), plans=shared.plans)

    async def run_async(self, call: Call) -> Any:
        """Load a value, whatever is kept, and keep it if it may be."""
        return await self.load_async(call, may_be_found=False)

    def run_sync(self, call: Call) -> Any:
        """Load a value, whatever is kept, and keep it if it may be."""
        return self.load_sync(call, may_be_found=False)

    async def load_async(self, call: Call, *, may_be_found: bool = True, is_away: bool = False) -> Any:
        """Load a value, or take what another process loads.

        Args:
            call: the call.
            may_be_found: whether what others load will do.
            is_away: whether Redis has just failed, so that it is left alone.
        """
        finish = self._shared.remote.finish_async
        load = self._shared_load(call, asyncio.Event(), asyncio.get_running_loop())
        with self._store.flights.under_way(call.key, load):
            entry = await finish(self._begin_steps(call, load, may_be_found=may_be_found, is_away=is_away))
            if entry is not None:
                return value_of(entry)
            try:
                with self._reading(call, load):
                    value = await self._function(*call.arguments, **call.named)
            except self._options.kept_errors as error:
                await finish(self._keep_steps(call, KeptError(error), load))
                raise
            except BaseException:
                self._shared.tier.let_go(call.key, load.claim)
                raise
            await finish(self._keep_steps(call, value, load))
            return value

    def load_sync(self, call: Call, *, may_be_found: bool = True, is_away: bool = False) -> Any:
        """Load a value, or take what another process loads; see `load_async`."""
        finish = self._shared.remote.finish
        load = self._shared_load(call, threading.Event(), threading.get_ident())
        with self._store.flights.under_way(call.key, load):
            entry = finish(self._begin_steps(call, load, may_be_found=may_be_found, is_away=is_away))
            if entry is not None:
                return value_of(entry)
            try:
                with self._reading(call, load):
                    value = self._function(*call.arguments, **call.named)
            except self._options.kept_errors as error:
                finish(self._keep_steps(call, KeptError(error), load))
                raise
            except BaseException:
                self._shared.tier.let_go(call.key, load.claim)
                raise
            finish(self._keep_steps(call, value, load))
            return value

    def put(self, call: Call, value: Any) -> bool:
        """Keep a value that was read elsewhere; return whether it is kept."""
        load = self._shared_load(call, threading.Event(), threading.get_ident())
        tags = frozenset(load.told)
        told = self._store.dependence(tags if CURRENT.get() else tags | whole_tables(self.expected))
        self._shared.remote.finish(self._put_steps(call, value, told, load))
        return load.entry is not None

    def fetch_steps(self, call: Call) -> Steps[Entry | None]:
        """Look for the entry of a call in Redis, and have it in memory.

        Raises:
            Unreachable: Redis is away.
        """
        self._shared.remote.refuse_open()  # before a question is made for nothing
        likely = self._likely(self._told(call))
        found = yield from self._shared.tier.find_steps(call.key, likely)
        return None if found is None else self._entry_found(call, likely, found)

    def _shared_load(self, call: Call, done: Any, owner: Any) -> SharedLoad:
        store = self._store
        mine = Reading(store.tokens, store.now(), (), CURRENT.get())
        return SharedLoad(done, owner, mine, self._told(call))

    def _begin_steps(
        self, call: Call, load: SharedLoad, *, may_be_found: bool, is_away: bool
    ) -> Steps[Entry | None]:
        """Claim a load, and take the stamps of what it is likely to read; or return another's entry."""
        tags = tuple({*load.told, *self.expected})
        # Who has written holds locks, and so must not wait for another's load.
        if is_away:
            stamps: dict[str, Item | None] = {}
            self._store.statistics.misses += 1
        elif may_be_found and not written_here():
            likely = self._likely(load.told)
            begun = yield from self._shared.tier.begin_steps(call.key, tags, likely)
            load.claim, stamps = begun.claim, begun.stamps
            found = begun.found
            if found is not None and (entry := self._entry_found(call, likely, found)) is not None:
                load.brought = load.entry = entry
                load.kept = found.asked
                inherit(entry.stamp)
                self._store.statistics.joined += 1
                return entry
            self._store.statistics.misses += 1
        else:
            stamps = yield from self._shared.tokens.stamp_steps(tags)
        early = {tag: (item,) for tag, item in stamps.items() if item is not None}
        load.reading.expect(early, self._store.now())
        load.reading.inherit({tag: early.get(tag) for tag in load.told})
        return None

    def _keep_steps(self, call: Call, value: Any, load: SharedLoad) -> Steps[None]:
        """Keep what was loaded, if it may be; who waits takes it from the load."""
        read = load.reading
        self._expect(read.expected.difference(load.told))
        yield from self._put_steps(call, value, Dependence(read.tags, read.stamp, read.refusal), load)
        if load.entry is not None and self.kept is not None:
            self.kept(call, load.entry)

    def _put_steps(self, call: Call, value: Any, depends: Dependence, load: SharedLoad) -> Steps[None]:
        value, depends = self._shareable(value, depends)
        store, refusal = self._store, depends.refusal
        entry = self._entry(call, value, depends)
        load.brought = entry if refusal != NOT_COPIED else None
        load.kept = monotonic()
        if refusal:
            yield from self._shared.tier.release_steps(call.key, load.claim)
        elif not (yield from self._fill_steps(call, entry, load)):
            refusal = NOT_HELD
        if refusal:
            store.statistics.refuse(refusal)
        else:
            entry.leased = load.kept + self._shared.lease
            load.entry = store.put(entry, load)

    def _fill_steps(self, call: Call, entry: Entry, load: SharedLoad) -> Steps[bool]:
        """Keep an entry in Redis, where that is possible, and return whether it holds."""
        tier, seconds = self._shared.tier, None if entry.expires == inf else entry.expires - entry.made
        payload = self._encoded(entry.value)
        if payload is None:
            yield from tier.release_steps(call.key, load.claim)
            return (yield from self._shared.tokens.holds_steps(entry.stamp))
        return (yield from tier.fill_steps(call.key, entry.stamp, payload, seconds, load.claim))

    def _encoded(self, value: Any) -> bytes | None:
        """Return a value as bytes; None for what each process keeps for itself."""
        if type(value) is KeptError:
            return None
        if type(value) is Copies:
            return value.data
        try:
            return self._codec.encode(value)
        except CodecError as error:
            if not self._has_refused:
                logger.warning("values of %s are kept by each process alone: %s", self.tag, error)
            self._has_refused = True
            return None

    def _entry_found(self, call: Call, likely: tuple[str, ...], found: Found) -> Entry | None:
        """Return an entry of Redis as one of memory, where it is put; None where its value cannot be read."""
        header = found.header
        left = header.seconds_left(time.time())
        if left is not None and left <= 0:
            return None
        try:
            value = self._codec.shareable(found.payload)
        except CodecError:
            self._shared.tier.malformed += 1
            return None
        tags = frozenset(header.tags)
        if header.tags != likely:
            self._expect({tag for tag in tags.difference(likely, self.expected) if not is_row(tag)})
        depends = Dependence(tags, found.stamp, "")
        # What is not compressed takes some times as much in memory; of the rest only a look tells.
        size = len(found.payload)
        about = None if size >= COMPRESS_FROM else MEMORY_PER_BYTE * size
        entry = entry_of(call.key, value, depends, left, self._options.refresh_share, about)
        entry.leased = found.asked + self._shared.lease
        self._store.memory.put(entry)
        return entry

    def _likely(self, told: tuple[str, ...]) -> tuple[str, ...]:
        """Return the tags that an entry probably depends on."""
        return told + self._also if len(self._also) <= MAX_LIKELY else told

    def _expect(self, tags: set[str]) -> None:
        if tags and not tags <= self.expected and len(self.expected | tags) <= MAX_EXPECTED:
            self.expected |= tags
            self._also = tuple(self.expected)
