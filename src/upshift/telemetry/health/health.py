"""The registry of checks, and their outcome as a whole."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Literal, NamedTuple

from upshift.telemetry.health.checks import Check, TypedCheck

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from upshift.settings import HealthSettings
    from upshift.telemetry.health.checks import CheckFunction, Result, Status

Phase = Literal["starting", "serving", "draining"]

# A colon separates a component from its measurement in `application/health+json`.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_WORST_LAST: tuple[Status, ...] = ("pass", "warn", "fail")


class Report(NamedTuple):
    """How the checks came out.

    Attributes:
        phase: of the process.
        results: one a check, in the order of their registration.
        unknown: what was to be left out and is no check.
    """

    phase: Phase
    results: tuple[Result, ...]
    unknown: tuple[str, ...]

    @property
    def status(self) -> Status:
        """The worst of the checks'; `pass` where there are none."""
        return max((result.status for result in self.results), key=_WORST_LAST.index, default="pass")

    @property
    def is_ready(self) -> bool:
        """Whether requests should be sent here."""
        return self.phase == "serving" and self.status != "fail"


class Health:
    """Knows what the process depends on, and tells probes.

    Args:
        settings: the timeout of checks, and how long a result is remembered.
        phase: tells where the process is between its start and its end, see `Lifespan.phase`.

    Example:
        >>> import asyncio
        >>> from upshift.settings import HealthSettings
        >>> from upshift.telemetry.health import disk_check
        >>> health = Health(HealthSettings())
        >>> health.check("disk", disk_check("/", minimum_free_bytes=0))
        >>> async def search(): raise ConnectionError("refused")
        >>> health.check("search", search, critical=False)
        >>> report = asyncio.run(health.report())
        >>> report.status, report.is_ready, report.results[1].output
        ('warn', True, 'ConnectionError: refused')
    """

    def __init__(self, settings: HealthSettings, phase: Callable[[], Phase] = lambda: "serving") -> None:
        self._settings = settings
        self._phase = phase
        self._checks: dict[str, Check] = {}

    @property
    def phase(self) -> Phase:
        """Where the process is between its start and its end."""
        return self._phase()

    def check(
        self,
        name: str,
        function: CheckFunction | TypedCheck,
        *,
        timeout: float | None = None,
        critical: bool = True,
    ) -> None:
        """Register a check.

        Args:
            name: what to call it: letters, digits and `_.-`.
            function: sync or async; fails by raising, and may return something to show. Or a ready-made
                check: `engine_check`, `redis_check`, `disk_check`.
            timeout: how long it may take, in seconds; the settings' value where not given.
            critical: whether the process is not ready when it fails.

        Raises:
            ValueError: the name is taken or cannot be one, or the timeout is not above zero.
        """
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} cannot name a health check: letters, digits and _.- can")
        if name in self._checks:
            raise ValueError(f"there is a health check named {name!r} already")
        seconds = self._settings.health_timeout_seconds if timeout is None else timeout
        if not 0 < seconds < math.inf:
            raise ValueError(f"the timeout of the health check {name!r} is {seconds}; it must be above zero")
        self._checks[name] = Check(
            name,
            function if isinstance(function, TypedCheck) else TypedCheck(function),
            timeout=seconds,
            critical=critical,
            cache_seconds=self._settings.health_cache_seconds,
        )

    async def report(self, exclude: Collection[str] = ()) -> Report:
        """Run the checks whose results are too old, all at once, and return the outcome.

        However many ask at a time, each check runs once. Whoever stops asking does not stop it for others.

        Args:
            exclude: names of checks to leave out.
        """
        checks = [check for name, check in self._checks.items() if name not in exclude]
        for run in [check.begin() for check in checks if not check.is_fresh]:
            await run.result()
        unknown = tuple(name for name in exclude if name not in self._checks)
        return Report(self.phase, tuple(check.latest for check in checks), unknown)
