"""Caches that are broken on purpose, to show that a run finds it.

Each does what a simpler protocol would, see the end of the essay in `upshift.cache.tokens`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from upshift import Cache
from upshift.cache.dependencies import Reading


def settles_only(cache: Cache) -> None:
    """Announce nothing before COMMIT, and give tags new tokens after it: invalidation as others do it."""
    announce, settle = cache._tokens.announce, cache._tokens.settle

    def late_settle(tags: Iterable[str], transaction: str) -> None:
        named = tuple(tags)
        announce(named, transaction)
        settle(named, transaction)

    cache._tokens.announce = lambda tags, transaction: None
    cache._tokens.settle = late_settle


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
