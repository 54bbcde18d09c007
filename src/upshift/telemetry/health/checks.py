"""One check of one dependency: run within its timeout, once for all who ask, and remembered for a moment."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from time import monotonic, perf_counter
from typing import TYPE_CHECKING, Literal, NamedTuple

from anyio import move_on_after
from anyio.lowlevel import current_token

from upshift.telemetry.calls import is_async
from upshift.telemetry.error_text import describe, shorten
from upshift.telemetry.health.running import Running

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    CheckFunction = Callable[[], object] | Callable[[], Awaitable[object]]

Status = Literal["pass", "warn", "fail"]
ComponentType = Literal["component", "datastore", "system"]

logger = logging.getLogger("upshift.telemetry")


class TypedCheck(NamedTuple):
    """A check that tells what kind of thing it checks.

    Attributes:
        function: raises when it fails; what it returns is shown.
        component_type: what it checks, as `application/health+json` names it.
    """

    function: CheckFunction
    component_type: ComponentType = "component"


class Result(NamedTuple):
    """How a check came out.

    Attributes:
        name: the check's.
        component_type: what was checked.
        status: `warn` where a check failed that is not critical.
        seconds: how long it took.
        at: when it began.
        detail: what it returned, as text; "" for nothing.
        output: what went wrong; "" where nothing did.
    """

    name: str
    component_type: ComponentType
    status: Status
    seconds: float
    at: datetime
    detail: str = ""
    output: str = ""


class Check:
    """A function that raises when a dependency is not there.

    A function that is still running after its timeout has failed. An async one is cancelled; a sync one runs
    in a thread of its own, and is let go. As long as it runs it is not called again, and the check fails: so
    one that hangs costs one thread, and takes none from others.

    Args:
        name: its name.
        check: what is called. It runs in an empty context, so that whatever it does is recorded as no
            request's.
        timeout: how long it may take, in seconds.
        critical: whether the process is not ready when it fails.
        cache_seconds: how long a result is remembered.

    Example:
        >>> import asyncio
        >>> async def twice():
        ...     disk = TypedCheck(lambda: "90 % free", "system")
        ...     check = Check("disk", disk, timeout=1, critical=True, cache_seconds=9)
        ...     await check.begin().result()
        ...     return check.latest.status, check.latest.detail, check.is_fresh
        >>> asyncio.run(twice())
        ('pass', '90 % free', True)
    """

    def __init__(
        self,
        name: str,
        check: TypedCheck,
        *,
        timeout: float,
        critical: bool,
        cache_seconds: float,
    ) -> None:
        self.name = name
        self._function, self._component_type = check
        self._timeout = timeout
        self._fault: Status = "fail" if critical else "warn"
        self._cache_seconds = cache_seconds
        self._fresh_until = 0.0
        self.latest = self._result(0.0, datetime.now(UTC), output="not run yet")
        self._is_failing = False
        self._run: Running | None = None
        self._called: Running | None = None
        self._called_at = ""

    @property
    def is_fresh(self) -> bool:
        """Whether the latest result still serves."""
        return monotonic() < self._fresh_until

    def begin(self) -> Running:
        """Return the run that is under way in this event loop, or begin one; it sets `latest`."""
        run = self._run
        if run is None or run.is_over or run.event_loop != current_token():
            run = self._run = Running(self._check)
        return run

    async def _check(self) -> None:
        at = datetime.now(UTC)
        started = perf_counter()
        detail = output = ""
        try:
            value = await self._ask()
            detail = "" if value is None else shorten(str(value))
        except Exception as error:  # noqa: BLE001 - that is how a check fails
            output = describe(error)
        self.latest = self._result(perf_counter() - started, at, detail=detail, output=output)
        self._fresh_until = monotonic() + self._cache_seconds
        self._log_change()

    async def _ask(self) -> object:
        if self._called is not None and not self._called.is_over:
            raise TimeoutError(f"still running since {self._called_at}")
        self._called_at = rfc3339(datetime.now(UTC))
        called = self._called = Running(self._function)
        with move_on_after(self._timeout):
            return await called.result()
        if is_async(self._function):  # a thread cannot be stopped
            called.cancel()
        raise TimeoutError(f"no answer within {self._timeout:g} s")

    def _result(self, seconds: float, at: datetime, *, detail: str = "", output: str = "") -> Result:
        status = self._fault if output else "pass"
        return Result(self.name, self._component_type, status, seconds, at, detail, output)

    def _log_change(self) -> None:
        """Say once that the check fails, and once that it passes again."""
        if bool(self.latest.output) == self._is_failing:
            return
        self._is_failing = not self._is_failing
        if self._is_failing:
            logger.warning("the health check %s fails: %s", self.name, self.latest.output)
        else:
            logger.info("the health check %s passes again", self.name)


def rfc3339(moment: datetime) -> str:
    """Write a moment as RFC 3339 has it, to the millisecond.

    Example:
        >>> rfc3339(datetime(2026, 7, 1, 12, 30, tzinfo=UTC))
        '2026-07-01T12:30:00.000Z'
    """
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
