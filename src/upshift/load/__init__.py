"""Load: sends HTTP requests to any URL on a schedule, and tells how long the answers took.

Flows in: a URL, the `Request`s to send and a plan. `OpenPlan` sends on schedule whatever the answers do, as a
crowd of users would; `ClosedPlan` keeps N connections busy, as a batch job would.
Flows out: a `Report` of rates, errors by kind, exact latency percentiles and the generator's own lag.

In the open model latency counts from the moment a request was due, not from when it could be sent: a server
that stalls cannot hide it from those who wait (Gil Tene, "How NOT to Measure Latency", 2013; his wrk2 does
the same). In the closed model a stalled server is simply asked less: use it for throughput and CPU per
request, never for tail latency.

`run` does it all in a loop of its own; `run_async` runs inside yours.
"""

from upshift.load.arrivals import Arrivals
from upshift.load.plan import MAX_REQUESTS, MAX_SECONDS, ClosedPlan, OpenPlan, Plan
from upshift.load.report import Counts, Latency, Report
from upshift.load.request import Request
from upshift.load.runner import Interrupted, run, run_async
from upshift.load.session import Progress
from upshift.load.terminal import table

__all__ = [
    "MAX_REQUESTS",
    "MAX_SECONDS",
    "Arrivals",
    "ClosedPlan",
    "Counts",
    "Interrupted",
    "Latency",
    "OpenPlan",
    "Plan",
    "Progress",
    "Report",
    "Request",
    "run",
    "run_async",
    "table",
]
