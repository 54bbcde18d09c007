"""Tells the world what was recorded: metrics, logs, traces and health.

Flows in: a closed `Record` per request, and what the application itself counts.
Flows out: the Prometheus exposition, log lines, spans, and answers to probes.
"""

from upshift.telemetry.endpoints import Endpoints, MetricsEndpoint
from upshift.telemetry.exposition import Exposition, expose
from upshift.telemetry.http import HttpMetrics
from upshift.telemetry.metrics import Metrics
from upshift.telemetry.server_timing import timing_headers
from upshift.telemetry.shared_metrics import SharedMetrics
from upshift.telemetry.shared_path import find_path
from upshift.telemetry.sockets import SocketMetrics

__all__ = [
    "Endpoints",
    "Exposition",
    "HttpMetrics",
    "Metrics",
    "MetricsEndpoint",
    "SharedMetrics",
    "SocketMetrics",
    "expose",
    "find_path",
    "timing_headers",
]
