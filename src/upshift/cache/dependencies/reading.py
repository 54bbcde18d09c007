"""What is being read: gathered while a cached function runs, from every statement that it sends."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from itertools import chain
from typing import TYPE_CHECKING, Any

from upshift.cache.dependencies.tables import EVERYTHING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from upshift.cache.dependencies.tables import Tables
    from upshift.cache.tokens import Carrier

CURRENT: ContextVar[Reading | None] = ContextVar("upshift_reading", default=None)
"""The reading of the cached function that runs; None outside of one."""


class Reading:
    """The stamps of what a function has read so far, and whether its value may be kept.

    A tag is stamped before the first statement that reads it is sent, so its stamp is older than what the
    statement sees. Where a transaction sees one snapshot from its beginning, only tags count that were
    stamped before that.

    Args:
        carrier: where tokens live.
        began: the number of the moment, see `CommitHooks`.
        expected: tags that it is likely to read, stamped at once; what of them it does not read does not
            count.
        outer: the reading of the cached function that called this one, which depends on the same.

    Attributes:
        refusal: why the value may not be kept; empty where it may.
    """

    __slots__ = ("_began", "_carrier", "_early", "_outer", "_stamps", "refusal")

    def __init__(
        self,
        carrier: Carrier[tuple[Any, ...]],
        began: int,
        expected: Iterable[str] = (),
        outer: Reading | None = None,
    ) -> None:
        self._carrier = carrier
        self._began = began
        self._early = {tag: stamp for tag in expected if (stamp := carrier.stamp((tag,))) is not None}
        self._outer = outer
        self._stamps: dict[str, tuple[Any, ...]] = {}
        self.refusal = ""

    @property
    def tags(self) -> frozenset[str]:
        """What the value depends on."""
        return frozenset(self._stamps)

    @property
    def stamp(self) -> tuple[Any, ...]:
        """The stamps together, as an entry keeps them."""
        return tuple(chain.from_iterable(self._stamps.values()))

    def need(self, tags: Iterable[str]) -> None:
        """Note what the value depends on, before it is read."""
        for tag in tags:
            if tag not in self._stamps:
                stamp = self._early.get(tag) or self._carrier.stamp((tag,))
                if stamp is None:
                    self.refuse("what it depends on is being written")
                else:
                    self._stamps[tag] = stamp
        if self._outer is not None:
            self._outer.need(tags)

    def sees(self, tables: Tables, snapshot: int | None, *, has_written: bool) -> None:
        """Note a statement that is about to be sent.

        Args:
            tables: what it reads and writes.
            snapshot: when its transaction began, where it sees one snapshot throughout; None where each
                statement sees what is committed.
            has_written: whether its transaction has written already.
        """
        tags = tables.read | {EVERYTHING}
        if tables.written or has_written:
            self.refuse("its transaction writes")
        elif not tables.is_understood:
            self.refuse("a statement cannot be understood")
        elif snapshot is not None and not (snapshot > self._began and tags <= self._early.keys()):
            self.refuse("its snapshot may be older than its stamps")
        self.need(tags)
        if self._outer is not None:
            self._outer.sees(tables, snapshot, has_written=has_written)

    def refuse(self, reason: str) -> None:
        """Say why the value may not be kept; the first reason stays."""
        self.refusal = self.refusal or reason

    def lags(self) -> None:
        """Note that what is read may be older than what has been committed, for all that it goes into."""
        self.refuse("it was read from a replica, which may lag")
        if self._outer is not None:
            self._outer.lags()


@contextmanager
def reading(mine: Reading) -> Iterator[Reading]:
    """Gather what statements read in the length of a `with` block."""
    token = CURRENT.set(mine)
    try:
        yield mine
    finally:
        CURRENT.reset(token)
