"""What is being read: gathered while a cached function runs, from every statement that it sends."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from itertools import chain
from typing import TYPE_CHECKING, Any

from upshift.cache.dependencies.names import EVERYTHING, is_row, table_of_row
from upshift.cache.dependencies.rows import MAX_ROWS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from upshift.cache.dependencies.effects import Tables
    from upshift.cache.tokens import Carrier

CURRENT: ContextVar[Reading | None] = ContextVar("upshift_reading", default=None)
"""The reading of the cached function that runs; None outside of one."""


class Reading:
    """The stamps of what a function has read so far, and whether its value may be kept.

    A tag is stamped before the first statement that reads it is sent, so its stamp is older than what the
    statement sees. Where a transaction sees one snapshot, taken by its first statement, only tags count that
    were stamped before that; a later statement that names rows, then, is taken for one of their table, which
    a function is known to read from its second load on.

    With `MAX_ROWS` rows of a table, what is read of it further counts as the whole table.

    Args:
        carrier: where tokens live.
        began: the number of the moment, see `CommitHooks`.
        expected: tags that it is likely to read, stamped at once; what of them it does not read does not
            count.
        outer: the reading of the cached function that called this one, which depends on the same.

    Attributes:
        refusal: why the value may not be kept; empty where it may.
        expected: its tags but for those of rows, which other calls of the function are likely to need.
    """

    __slots__ = (
        "_began",
        "_carrier",
        "_early",
        "_in_time",
        "_outer",
        "_rows",
        "_stamps",
        "expected",
        "refusal",
    )

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
        self._rows: dict[str, int] = {}
        self._in_time: tuple[int, frozenset[str]] = (0, frozenset())
        self.expected: set[str] = set()
        self.refusal = ""

    @property
    def tags(self) -> frozenset[str]:
        """What the value depends on."""
        return frozenset(self._stamps)

    @property
    def stamp(self) -> tuple[Any, ...]:
        """The stamps together, as an entry keeps them."""
        return tuple(chain.from_iterable(self._stamps.values()))

    def expect(self, stamps: Mapping[str, tuple[Any, ...]], began: int) -> None:
        """Take stamps of expected tags that were had otherwise, and begin anew: nothing has been read yet."""
        self._early.update(stamps)
        self._began = began

    def need(self, tags: Iterable[str]) -> None:
        """Note what the value depends on, before it is read."""
        named = [tag if tag in self._stamps else self._bounded(tag) for tag in tags]
        for tag in named:
            self._stamp(tag)
        if self._outer is not None:
            self._outer.inherit({tag: self._stamps.get(tag) for tag in named})

    def inherit(self, stamps: Mapping[str, tuple[Any, ...] | None]) -> None:
        """Note what the value depends on by way of another value.

        Args:
            stamps: what that depends on, with the stamps from before it was read; None where there was none.
        """
        for tag, stamp in stamps.items():
            name = tag if tag in self._stamps else self._bounded(tag)
            if name in self._stamps or name in self._early:
                self._stamp(name)
            elif stamp is None:
                self.refuse("what it depends on is being written")
            elif name != tag:  # the table's stamp would be younger than the value
                self.expected.add(name)
                self.refuse("it depends on too many rows by way of other values")
            else:
                self._stamps[tag] = stamp
                self._stamp(tag)
        if self._outer is not None:
            self._outer.inherit(stamps)

    def _stamp(self, tag: str) -> None:
        if not is_row(tag):
            self.expected.add(tag)
        if tag not in self._stamps:
            stamp = self._early.get(tag)
            if stamp is None and not self.refusal:  # a value that is not kept anyway needs no more of them
                stamp = self._carrier.stamp((tag,))
            if stamp is None:
                self.refuse("what it depends on is being written")
            else:
                self._stamps[tag] = stamp

    def _bounded(self, tag: str) -> str:
        """Return a tag, or that of the table, where that is needed anyway or there are too many rows."""
        table = table_of_row(tag)
        if table is None or table in self._stamps:
            return table or tag
        if not is_row(tag):
            return tag
        known = self._rows[table] = self._rows.get(table, 0) + 1
        return tag if known <= MAX_ROWS else table

    def sees(self, tables: Tables, transaction: int | None, *, is_first: bool, has_written: bool) -> None:
        """Note a statement that is about to be sent.

        Args:
            tables: what it reads and writes.
            transaction: the number of the moment at which its transaction began, where that sees one
                snapshot throughout; None where each statement sees what is committed.
            is_first: whether it is the first statement of its transaction.
            has_written: whether its transaction has written already.
        """
        tags = tables.read | {EVERYTHING}
        if tables.written or has_written:
            self.refuse("its transaction writes")
        elif not tables.is_understood:
            self.refuse("a statement cannot be understood")
        elif transaction is not None and not is_first:
            in_time = self._stamped_before(transaction)
            tags = frozenset(tag if tag in in_time else (table_of_row(tag) or tag) for tag in tags)
            if not tags <= in_time:
                self.refuse("its snapshot may be older than its stamps")
        self.need(tags)
        if transaction is not None and is_first:
            self._in_time = (transaction, self.tags)
        if self._outer is not None:
            self._outer.sees(tables, transaction, is_first=is_first, has_written=has_written)

    def _stamped_before(self, transaction: int) -> frozenset[str]:
        """Return the tags that were stamped before a transaction took its snapshot."""
        since, tags = self._in_time
        early = frozenset(self._early) if transaction > self._began else frozenset[str]()
        return early | tags if since == transaction else early

    def refuse(self, reason: str) -> None:
        """Say why the value may not be kept; the first reason stays."""
        self.refusal = self.refusal or reason

    def lags(self) -> None:
        """Note that what is read may be older than what has been committed, for all that it goes into."""
        self.spoil("it was read from a replica, which may lag")

    def spoil(self, reason: str) -> None:
        """Say why neither the value may be kept nor any that it goes into."""
        self.refuse(reason)
        if self._outer is not None:
            self._outer.spoil(reason)

    def is_within(self, other: Reading) -> bool:
        """Whether this is another reading, or one of a function that it called, through however many."""
        return other in self.chain()

    def chain(self) -> Iterator[Reading]:
        """Yield this reading, and those of the functions that called its, up to the outermost."""
        each: Reading | None = self
        while each is not None:
            yield each
            each = each._outer


@contextmanager
def reading(mine: Reading) -> Iterator[Reading]:
    """Gather what statements read in the length of a `with` block."""
    token = CURRENT.set(mine)
    try:
        yield mine
    finally:
        CURRENT.reset(token)
