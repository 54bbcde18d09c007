"""Whether the process lives, has started, can take requests, and how its dependencies are.

Flows in: the checks that the application registers, and the lifespan's phase.
Flows out: answers to probes.
"""

from upshift.telemetry.health.checks import Check, Result, Status, TypedCheck
from upshift.telemetry.health.dependencies import disk_check, engine_check, redis_check
from upshift.telemetry.health.health import Health, Phase, Report
from upshift.telemetry.health.probes import probe_endpoints

__all__ = [
    "Check",
    "Health",
    "Phase",
    "Report",
    "Result",
    "Status",
    "TypedCheck",
    "disk_check",
    "engine_check",
    "probe_endpoints",
    "redis_check",
]
