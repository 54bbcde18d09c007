"""What is installed on the engines of one application: all of it, and out again in the right order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from upshift.sql import Batching, Capture, Comments, FetchPlans, Pools, Transactions
from upshift.sql.pool.care import PoolCare
from upshift.sql.pool.leaks import Leaks

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import ContextVar

    from sqlalchemy.engine import Engine

    from upshift.record import CallSites, Record
    from upshift.settings import Settings
    from upshift.sql import AttributeUses, Difference, PlanCapture
    from upshift.telemetry import DatabaseMetrics


class Hooks:
    """Observes the pools, transactions and statements of engines, and applies the fixes that are turned on.

    Args:
        engines: the (sync) engines.
        settings: all settings.
        current: where the record of the running request is found.
        call_sites: tells the application's frames from libraries'.
        route_of: tells a record's route.
        is_sampled: tells whether a request's trace is exported.
        database: is told what happens at the pools.
        plans: is told which executions were slow; None where nobody explains them.
        uses: sees in a sample of the requests what is read of what statements load.

    Attributes:
        pools: the pools and the connections in use.
        pool_care: what keeps the pools in health and in size.
        batching: None where lazy loads are left alone.
        fetch_plans: None where none are learned.
    """

    def __init__(  # noqa: PLR0913 - one call site; each names what it is for
        self,
        engines: tuple[Engine, ...],
        settings: Settings,
        *,
        current: ContextVar[Record | None],
        call_sites: CallSites,
        route_of: Callable[[Record], str | None],
        is_sampled: Callable[[Record], bool],
        database: DatabaseMetrics,
        plans: PlanCapture | None,
        uses: AttributeUses,
    ) -> None:
        # Before the pools are observed: what it keeps from use has been given back, as they see it.
        self.pool_care = PoolCare(engines, settings.pool, lambda pool: self.pools.population(pool))  # noqa: PLW0108 - made below
        self.pools = Pools(
            engines,
            current,
            database,
            call_sites=call_sites,
            leaks=Leaks(settings.pool.pool_leak_seconds, route_of),
            route_of=route_of,
            parked=self.pool_care.parked,
        )
        self._transactions = Transactions(
            engines, self.pools.checkouts, database.transaction_ended, call_sites
        )
        self._comments = Comments(route_of, is_sampled)
        self._capture = Capture(
            engines,
            current,
            call_sites,
            keep_parameters=settings.sql.keep_parameters,
            checkouts=self.pools.checkouts,
            comments=self._comments if settings.sql.sql_comments else None,
            plans=plans,
            uses=uses if settings.sql.use_sample_rate else None,
        )
        self._uses = uses
        self.batching: Batching | None = None
        if settings.sql.batching or settings.sql.batching_shadow:
            self.batching = Batching(engines, call_sites, shadow=settings.sql.batching_shadow)
        self.fetch_plans: FetchPlans | None = None
        if settings.sql.fetch_plans == "learn":
            self.fetch_plans = FetchPlans(engines, call_sites, current, route_of)

    def differences(self) -> tuple[Difference, ...]:
        """Return where batching would have given another value; nothing outside of shadow mode."""
        shadow = self.batching.shadow if self.batching else None
        return tuple(shadow.differences) if shadow else ()

    def faults(self) -> dict[str, Callable[[], int]]:
        """Return for each part how to tell its faults."""
        batching, fetch_plans = self.batching, self.fetch_plans
        shadow = batching.shadow if batching else None
        return {
            "statements": lambda: self._capture.faults,
            "pools": lambda: self.pools.faults,
            "pool_care": lambda: self.pool_care.faults,
            "transactions": lambda: self._transactions.faults,
            "comments": lambda: self._comments.faults,
            "batching": lambda: batching.faults if batching else 0,
            "batching_differences": lambda: shadow.different if shadow else 0,
            "uses": lambda: self._uses.faults,
            "fetch_plans": lambda: fetch_plans.faults if fetch_plans else 0,
        }

    def close(self) -> None:
        """Take everything out of the engines. Calling it twice does nothing more."""
        self._capture.close()
        self._uses.close()
        self._transactions.close()
        self.pools.close()
        self.pool_care.close()
        if self.batching is not None:
            self.batching.close()
        if self.fetch_plans is not None:
            self.fetch_plans.close()
