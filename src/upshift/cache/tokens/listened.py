"""A carrier that tells of what has been written."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Generic

from upshift.cache.tokens.carrier import StampT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from upshift.cache.tokens.carrier import Carrier


logger = logging.getLogger("upshift.cache")


class ListenedTokens(Generic[StampT]):
    """A carrier, and who is told when a transaction of this process is over that wrote to tags.

    Args:
        carrier: the carrier.

    Attributes:
        listeners: called with the tags, once they have new tokens. What one raises is logged, once.

    Example:
        >>> from upshift.cache.tokens import LocalTokens
        >>> tokens = ListenedTokens(LocalTokens())
        >>> tokens.listeners.append(print)
        >>> tokens.announce(["product"], "transaction 1")
        >>> tokens.settle(["product"], "transaction 1")
        ('product',)
    """

    def __init__(self, carrier: Carrier[StampT]) -> None:
        self.listeners: list[Callable[[Iterable[str]], None]] = []
        # The carrier's own, as a call more would cost a hit a tenth of its time.
        self.stamp = carrier.stamp
        self.holds = carrier.holds
        self.announce = carrier.announce
        self._settle = carrier.settle
        self._has_failed = False

    def settle(self, tags: Iterable[str], transaction: str) -> None:
        """Say that a transaction is over, and tell of it."""
        named = tuple(tags) if self.listeners else tags
        self._settle(named, transaction)
        for listener in self.listeners:
            try:
                listener(named)
            except Exception:  # the commit is done, and must not seem to have failed
                if not self._has_failed:
                    logger.exception("what a commit has ended could not be loaded anew")
                self._has_failed = True
