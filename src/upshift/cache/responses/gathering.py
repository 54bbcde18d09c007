"""What is read for an answer: until it is complete. What runs after that, background tasks, makes none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from upshift.cache.dependencies import Reading

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from upshift.cache.dependencies import Tables
    from upshift.cache.tokens import Carrier


class Gathering(Reading):
    """The reading of a request.

    Attributes:
        is_complete: whether the answer is; from then on only writes are noted.
        has_written_since: whether there were any. Whoever is given the stored answer would do without them.
    """

    __slots__ = ("has_written_since", "is_complete")

    def __init__(
        self, carrier: Carrier[tuple[Any, ...]], began: int, expected: Iterable[str], outer: Reading | None
    ) -> None:
        super().__init__(carrier, began, expected, outer)
        self.is_complete = False
        self.has_written_since = False

    def need(self, tags: Iterable[str]) -> None:
        """Note what the answer depends on, before it is read."""
        if not self.is_complete:
            super().need(tags)

    def inherit(self, stamps: Mapping[str, tuple[Any, ...] | None]) -> None:
        """Note what the answer depends on by way of a value."""
        if not self.is_complete:
            super().inherit(stamps)

    def sees(self, tables: Tables, transaction: int | None, *, is_first: bool, has_written: bool) -> None:
        """Note a statement that is about to be sent."""
        if not self.is_complete:
            super().sees(tables, transaction, is_first=is_first, has_written=has_written)
        elif tables.written:
            self.has_written_since = True

    def lags(self) -> None:
        """Note that what is read may be older than what has been committed."""
        if not self.is_complete:
            super().lags()

    def spoil(self, reason: str) -> None:
        """Say why the answer may not be kept, nor anything that it goes into."""
        if not self.is_complete:
            super().spoil(reason)
