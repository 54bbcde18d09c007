"""What every place that tokens can live in does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable

INTENT_SECONDS = 60.0
"""How long an intent that nobody settles keeps a tag's token away: longer than any commit takes."""

StampT = TypeVar("StampT")
"""What a carrier knows an entry's tokens by; a tuple, to be handed back as it is."""


class Carrier(Protocol[StampT]):
    """Tokens and intents of tags. `upshift.cache.tokens` tells what the operations promise together."""

    def stamp(self, tags: Iterable[str]) -> StampT | None:
        """Return the tokens of tags, to be taken before a value is loaded; None where one is gone."""

    def holds(self, stamp: StampT) -> bool:
        """Whether every tag has the very token of a stamp still."""

    def announce(self, tags: Iterable[str], transaction: str) -> None:
        """Take the tokens of tags away: a transaction that wrote to them is about to commit."""

    def settle(self, tags: Iterable[str], transaction: str) -> None:
        """Say that a transaction is over: tags that no other one is about to write get new tokens."""
