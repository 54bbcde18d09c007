"""Caches that are broken on purpose, to show that a run finds it.

Each does what a simpler protocol would, see the end of the essay in `upshift.cache.tokens`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from threading import Timer

from upshift import Cache
from upshift.cache.dependencies import Reading

DELAY = 0.005
"""Seconds from the end of COMMIT to what tells of it, as where that is told over a network."""


def settles_only(cache: Cache) -> None:
    """Announce nothing before COMMIT, and give tags new tokens soon after it, as others invalidate."""
    announce, settle = cache._tokens.announce, cache._tokens.settle

    def renew(tags: tuple[str, ...], transaction: str) -> None:
        announce(tags, transaction)
        settle(tags, transaction)

    def settle_later(tags: Iterable[str], transaction: str) -> None:
        Timer(DELAY, renew, (tuple(tags), transaction)).start()

    cache._tokens.announce = lambda tags, transaction: None
    cache._tokens.settle = settle_later


def stamps_late(_: Cache) -> None:
    """Take the stamps of a value when it is kept, after the query."""

    def stamp_now(reading: Reading) -> tuple[object, ...]:
        return reading._carrier.stamp(reading.tags) or ()

    Reading.stamp = property(stamp_now)


def forgets_rows(cache: Cache) -> None:
    """Announce of what is written only the tables, so that values of rows stay."""
    announce, settle = cache._tokens.announce, cache._tokens.settle

    def whole(tags: Iterable[str]) -> list[str]:
        return [tag for tag in tags if tag.startswith("table:")]

    cache._tokens.announce = lambda tags, transaction: announce(whole(tags), transaction)
    cache._tokens.settle = lambda tags, transaction: settle(whole(tags), transaction)


MUTANTS: dict[str, Callable[[Cache], None]] = {
    each.__name__: each for each in (settles_only, stamps_late, forgets_rows)
}
