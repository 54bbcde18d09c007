"""Tells the world what was recorded: metrics, logs, traces and health.

Flows in: a closed `Record` per request, and what the application itself counts.
Flows out: the Prometheus exposition, log lines, spans, and answers to probes.
"""

from upshift.telemetry.endpoints import Endpoints, MetricsEndpoint
from upshift.telemetry.health import Health, disk_check, engine_check, probe_endpoints, redis_check
from upshift.telemetry.ids import ClientHooks, Propagation, SentryTags
from upshift.telemetry.lifespan import Lifespan
from upshift.telemetry.logs import install as install_logs
from upshift.telemetry.metrics import (
    DatabaseMetrics,
    Exposition,
    HttpMetrics,
    Metrics,
    ProcessMetrics,
    ReplicaMetrics,
    SocketMetrics,
    count_dropped,
    count_faults,
    expose,
)
from upshift.telemetry.server_timing import timing_headers
from upshift.telemetry.sharing import SharedMetrics, find_path
from upshift.telemetry.tracing import HeadSampling, SpanExport

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
    "ReplicaMetrics",
    "SentryTags",
    "SharedMetrics",
    "SocketMetrics",
    "SpanExport",
    "count_dropped",
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
