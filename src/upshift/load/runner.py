"""Running a plan: `run` in an event loop of its own, `run_async` in the caller's."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from upshift.errors import MissingExtraError
from upshift.load.closed_model import ClosedSession
from upshift.load.open_model import OpenSession
from upshift.load.plan import OpenPlan, Plan
from upshift.load.request import Request, aim

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from upshift.load.report import Report
    from upshift.load.session import Progress, Session


class Interrupted(KeyboardInterrupt):
    """Ctrl-C stopped a run; it goes on upwards like any other Ctrl-C.

    Attributes:
        report: what was measured until then.
    """

    def __init__(self, report: Report) -> None:
        super().__init__("the load test was interrupted")
        self.report = report


def run(
    url: str,
    plan: Plan,
    requests: Sequence[Request] = (),
    *,
    watch: Callable[[Progress], None] | None = None,
) -> Report:
    """Load a server, and return when all is answered or given up.

    Args:
        url: the server, `http://` or `https://`; without `requests`, what to ask for as well.
        plan: how hard and how long.
        requests: what to send, below the URL's path; in turn, or by weight.
        watch: called about once a second with the progress. It runs in the generator's own loop, so it must
            be quick.

    Raises:
        LoadError: a value makes no sense, or the server cannot be reached at all. A server that dies later
            is no error of the test: the report counts what failed.
        MissingExtraError: uvloop or httptools is not installed.
        Interrupted: Ctrl-C was pressed; has the partial report.

    Example:
        >>> run("http://localhost:8000", OpenPlan(rate=500, seconds=30))  # doctest: +SKIP
        Report(requests=15000, sent=15000, completed=15000, ok=15000, ...)
    """
    try:
        import uvloop
    except ImportError as error:
        raise MissingExtraError("load tests", "load") from error
    session = _session(url, plan, requests)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            runner.run(session.play(watch))
        except KeyboardInterrupt:
            raise Interrupted(session.report(interrupted=True)) from None
    return session.report(interrupted=False)


async def run_async(
    url: str,
    plan: Plan,
    requests: Sequence[Request] = (),
    *,
    watch: Callable[[Progress], None] | None = None,
) -> Report:
    """Do what `run` does, in the running event loop; uvloop's is three times as fast as asyncio's own.

    What else runs in the loop makes the generator late, which the report tells. When cancelled it closes its
    connections first.
    """
    session = _session(url, plan, requests)
    await session.play(watch)
    return session.report(interrupted=False)


def _session(url: str, plan: Plan, requests: Sequence[Request]) -> Session:
    target, requests = aim(url, requests)
    if isinstance(plan, OpenPlan):
        return OpenSession(target, plan, requests)
    return ClosedSession(target, plan, requests)
