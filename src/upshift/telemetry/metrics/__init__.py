"""What is counted, and how Prometheus reads it.

Flows in: closed records, uses of connections, the process, and what the application itself counts.
Flows out: series, and the exposition.
"""

from upshift.telemetry.metrics.database import DatabaseMetrics
from upshift.telemetry.metrics.exposition import Exposition, expose
from upshift.telemetry.metrics.families import declare_cache, declare_jobs, declare_queues
from upshift.telemetry.metrics.faults import count_dropped, count_faults
from upshift.telemetry.metrics.http import HttpMetrics
from upshift.telemetry.metrics.process import ProcessMetrics
from upshift.telemetry.metrics.registry import Metrics
from upshift.telemetry.metrics.replicas import ReplicaMetrics
from upshift.telemetry.metrics.sockets import SocketMetrics

__all__ = [
    "DatabaseMetrics",
    "Exposition",
    "HttpMetrics",
    "Metrics",
    "ProcessMetrics",
    "ReplicaMetrics",
    "SocketMetrics",
    "count_dropped",
    "count_faults",
    "declare_cache",
    "declare_jobs",
    "declare_queues",
    "expose",
]
