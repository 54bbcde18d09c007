"""What is done for the pools of one application, as its settings say, beside observing them."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING

from sqlalchemy.pool import QueuePool

from upshift.record.pool_care import PoolTally
from upshift.sql.pool.capacity import is_taken
from upshift.sql.pool.freshness import Freshness, FreshnessCounts
from upshift.sql.pool.opening import warm
from upshift.sql.pool.pools import pool_names
from upshift.sql.pool.sizing import AutomaticSizing
from upshift.sql.pool.upkeep import Job, Upkeep

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from sqlalchemy.engine import Engine

    from upshift.settings import PoolSettings

logger = logging.getLogger("upshift.sql")


class PoolCare:
    """Sizes, checks and warms pools; each only where the settings say so.

    Args:
        engines: the (sync) engines.
        settings: what to do.
        population: tells how many have a connection of a pool or wait for one, by the pool's name.

    It has to be made before the pools are observed, see `upshift.sql.pool.pools.Pools`, so that what sizing
    keeps from use was given back for the observer.

    Example:
        >>> import sqlalchemy as sa
        >>> from upshift.settings import PoolSettings
        >>> engine = sa.create_engine("sqlite:///shop.db", pool_size=5)
        >>> care = PoolCare([engine], PoolSettings(pool_sizing="auto", pool_max_size=20), lambda name: 0)
        >>> [tally.limit for tally in care.tallies()]
        [15]
        >>> care.close()
    """

    def __init__(
        self, engines: Iterable[Engine], settings: PoolSettings, population: Callable[[str], int]
    ) -> None:
        self._settings = settings
        self._engines = pool_names(engines)
        self._sizings = dict(self._sized(population)) if settings.pool_sizing == "auto" else {}
        self._freshness: Freshness | None = None
        if settings.pool_checks:
            self._freshness = Freshness(
                self._engines,
                ping_idle_seconds=settings.pool_ping_idle_seconds,
                lifetime_seconds=settings.pool_lifetime_seconds,
            )
        self._upkeep = Upkeep(self._jobs())

    @property
    def faults(self) -> int:
        """Times when something of it went wrong."""
        parts = (*self._sizings.values(), *((self._freshness,) if self._freshness else ()), self._upkeep)
        return sum(part.faults for part in parts)

    @property
    def warms(self) -> bool:
        """Whether connections are opened before the application serves."""
        return bool(self._settings.pool_warm and self._engines)

    def start(self) -> None:
        """Begin what goes on beside the requests, in the process and the event loop that serve them."""
        self._upkeep.start()

    def stop(self) -> None:
        """End it: the event loop may be about to end."""
        self._upkeep.stop()

    async def warm(self) -> None:
        """Open connections before the application serves."""
        await warm(self._engines.values(), self._settings.pool_warm, self._settings.pool_warm_seconds)

    def close(self) -> None:
        """Put the pools back as they were. Calling it twice does nothing more."""
        self._upkeep.stop()
        if self._freshness is not None:
            self._freshness.close()
        for sizing in self._sizings.values():
            sizing.close()

    def parked(self, name: str) -> int:
        """How many open connections of a pool are kept from use."""
        sizing = self._sizings.get(name)
        return sizing.capacity.parked if sizing is not None else 0

    def tallies(self) -> Iterator[PoolTally]:
        """Tell what was done for each pool."""
        for name in self._engines:
            counts = self._freshness.counts[name] if self._freshness is not None else FreshnessCounts()
            tally = PoolTally(name, **counts._asdict())
            sizing = self._sizings.get(name)
            if sizing is not None:
                tally = tally._replace(
                    limit=sizing.capacity.limit,
                    target=sizing.climb.limit,
                    most=sizing.climb.most,
                    raised=sizing.resizes["up"],
                    lowered=sizing.resizes["down"],
                )
            yield tally

    def _sized(self, population: Callable[[str], int]) -> Iterator[tuple[str, AutomaticSizing]]:
        least, most = self._settings.pool_min_size, self._settings.pool_max_size
        for name, engine in self._engines.items():
            if is_taken(engine.pool):
                logger.warning("the pool %s is sized by another Upshift; this one leaves it alone", name)
            elif isinstance(engine.pool, QueuePool):
                yield name, AutomaticSizing(engine, partial(population, name), least=least, most=most)

    def _jobs(self) -> Iterator[Job]:
        for name, sizing in self._sizings.items():
            yield Job(f"upshift-pool-sizing-{name}", sizing.steps, sizing.in_loop)
        if self._freshness is not None:
            for name, engine in self._engines.items():
                steps = partial(self._freshness.steps, name)
                yield Job(f"upshift-pool-checks-{name}", steps, engine.dialect.is_async)
