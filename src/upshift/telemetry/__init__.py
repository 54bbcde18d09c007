"""Tells the world what was recorded: metrics, logs, traces and health.

Flows in: a closed `Record` per request, and what the application itself counts.
Flows out: the Prometheus exposition, log lines, spans, and answers to probes.
"""

from upshift.telemetry.clients import ClientHooks
from upshift.telemetry.database import DatabaseMetrics
from upshift.telemetry.endpoints import Endpoints, MetricsEndpoint
from upshift.telemetry.exposition import Exposition, expose
from upshift.telemetry.faults import count_faults
from upshift.telemetry.health import Health, disk_check, engine_check, probe_endpoints, redis_check
from upshift.telemetry.http import HttpMetrics
from upshift.telemetry.lifespan import Lifespan
from upshift.telemetry.logs import install as install_logs
from upshift.telemetry.metrics import Metrics
from upshift.telemetry.process import ProcessMetrics
from upshift.telemetry.propagation import Propagation
from upshift.telemetry.sampling import HeadSampling
from upshift.telemetry.sentry import SentryTags
from upshift.telemetry.server_timing import timing_headers
from upshift.telemetry.shared_metrics import SharedMetrics
from upshift.telemetry.shared_path import find_path
from upshift.telemetry.sockets import SocketMetrics
from upshift.telemetry.tracing import SpanExport

__all__ = [
    "ClientHooks",
    "DatabaseMetrics",
    "Endpoints",
    "Exposition",
    "HeadSampling",
    "Health",
    "HttpMetrics",
    "Lifespan",
    "Metrics",
    "MetricsEndpoint",
    "ProcessMetrics",
    "Propagation",
    "SentryTags",
    "SharedMetrics",
    "SocketMetrics",
    "SpanExport",
    "count_faults",
    "disk_check",
    "engine_check",
    "expose",
    "find_path",
    "install_logs",
    "probe_endpoints",
    "redis_check",
    "timing_headers",
]
