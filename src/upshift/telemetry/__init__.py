"""Tells the world what was recorded: metrics, logs, traces and health.

Flows in: a closed `Record` per request, and what the application itself counts.
Flows out: the Prometheus exposition, log lines, spans, and answers to probes.
"""

from upshift.telemetry.endpoints import Endpoints, MetricsEndpoint
from upshift.telemetry.exposition import Exposition, expose
from upshift.telemetry.http import HttpMetrics
from upshift.telemetry.metrics import Metrics

__all__ = ["Endpoints", "Exposition", "HttpMetrics", "Metrics", "MetricsEndpoint", "expose"]
