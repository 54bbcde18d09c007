"""What is slow, why, and what to do: findings and the rules that make them.

Flows in: an `Observation`, records of requests and statistics of statements.
Flows out: `Finding`s with a stable code, the worst first, and their renderings.
"""

from upshift.diagnose.finding import Finding, Severity
from upshift.diagnose.observation import Observation
from upshift.diagnose.rules import diagnose

__all__ = ["Finding", "Observation", "Severity", "diagnose"]
