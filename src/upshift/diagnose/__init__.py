"""What is slow, why, and what to do: findings and the rules that make them.

Flows in: an `Observation`, records of requests and statistics of statements; `survey` drives an application's
routes so that there is something to observe.
Flows out: `Finding`s with a stable code, the worst first, and a `Report` of them for the formats.
"""

from upshift.diagnose.asgi_client import Response, get, lifespan
from upshift.diagnose.finding import Finding, Severity
from upshift.diagnose.observation import Observation
from upshift.diagnose.report import Report, Skipped
from upshift.diagnose.rules import diagnose
from upshift.diagnose.survey import Driving, Survey, survey

__all__ = [
    "Driving",
    "Finding",
    "Observation",
    "Report",
    "Response",
    "Severity",
    "Skipped",
    "Survey",
    "diagnose",
    "get",
    "lifespan",
    "survey",
]
