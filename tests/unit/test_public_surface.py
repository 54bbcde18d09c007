"""What users may import: a name that comes or goes changes this list, and the changelog."""

import importlib
import subprocess
import sys
from types import FunctionType

import pytest

SURFACE = {
    "upshift": {
        "Settings",
        "Upshift",
    },
    "upshift.record": {
        "Attachment",
        "Backlog",
        "CallSite",
        "CallSites",
        "Closing",
        "CountedSeries",
        "Histogram",
        "Keeper",
        "Kind",
        "LazyLoad",
        "MAX_STATEMENTS",
        "METHODS",
        "PoolState",
        "Record",
        "Recorder",
        "RouteTemplates",
        "Socket",
        "SocketRecorder",
        "Statement",
        "find_record",
        "known_method",
        "of_requests",
    },
    "upshift.sql": {
        "AdviceReport",
        "Batching",
        "Capture",
        "Comments",
        "Digest",
        "Digests",
        "Index",
        "IndexAdvice",
        "LateBatchingWarning",
        "Pools",
        "SCHEDULE",
        "Sample",
        "StatementStatistics",
        "StatementTable",
        "Transactions",
        "UncoveredSQLAlchemyWarning",
        "apply_indexes",
        "consolidate",
        "engine_for",
        "index_from_dict",
        "normalise",
        "sync_engine_for",
        "undo_indexes",
    },
    "upshift.traffic": {
        "Compression",
        "accepts_gzip",
        "is_compressible",
    },
    "upshift.diagnose": {
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
    },
    "upshift.diagnose.formats": {
        "FORMATS",
        "github",
        "json",
        "sarif",
        "table",
    },
    "upshift.load": {
        "Arrivals",
        "ClosedPlan",
        "Counts",
        "Interrupted",
        "Latency",
        "MAX_REQUESTS",
        "MAX_SECONDS",
        "OpenPlan",
        "Plan",
        "Progress",
        "Report",
        "Request",
        "run",
        "run_async",
        "table",
    },
    "upshift.prove": {
        "Arm",
        "Comparison",
        "Design",
        "METRICS",
        "Metric",
        "Ratio",
        "Result",
        "Sample",
        "Scenario",
        "ScenarioResult",
        "Server",
        "Variant",
        "Verdict",
        "blocked_ratio",
        "compare",
        "compare_async",
        "cpu_seconds",
        "judge",
        "serve",
        "table",
    },
    "upshift.telemetry": {
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
    },
    "upshift.telemetry.health": {
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
    },
    "upshift.telemetry.ids": {
        "ClientHooks",
        "Propagation",
        "SentryTags",
    },
    "upshift.telemetry.lifespan": {
        "Lifespan",
    },
    "upshift.telemetry.logs": {
        "AccessLog",
        "Formatter",
        "Logs",
        "StructlogRenderer",
        "install",
    },
    "upshift.telemetry.metrics": {
        "DatabaseMetrics",
        "Exposition",
        "HttpMetrics",
        "Metrics",
        "ProcessMetrics",
        "SocketMetrics",
        "count_dropped",
        "count_faults",
        "declare_cache",
        "declare_jobs",
        "declare_queues",
        "expose",
    },
    "upshift.telemetry.sharing": {
        "SharedMetrics",
        "SharedTotals",
        "find_path",
    },
    "upshift.telemetry.tracing": {
        "HeadSampling",
        "SpanExport",
    },
    "upshift.testing": {
        "PostgresServer",
        "ValkeyServer",
        "database_url",
        "postgres",
        "redis_url",
        "valkey",
    },
    "upshift.testing.servers": {
        "PostgresServer",
        "ValkeyServer",
        "database_url",
        "postgres",
        "redis_url",
        "valkey",
    },
}
OPTIONAL = (
    "asyncpg",
    "fastapi",
    "httptools",
    "numpy",
    "psutil",
    "psycopg",
    "redis",
    "sqlglot",
    "uvicorn",
    "uvloop",
)


@pytest.mark.parametrize("room", SURFACE)
def test_a_room_exports_what_is_told_here(room):
    assert set(importlib.import_module(room).__all__) == SURFACE[room]


@pytest.mark.parametrize("room", SURFACE)
def test_what_a_room_exports_is_there_and_documented(room):
    module = importlib.import_module(room)

    for name in SURFACE[room]:
        exported = getattr(module, name)
        assert not isinstance(exported, type | FunctionType) or exported.__doc__, name


def test_upshift_imports_without_any_extra():
    blocked = f"import sys; sys.modules.update(dict.fromkeys({OPTIONAL!r}))"

    subprocess.run([sys.executable, "-c", f"{blocked}; import upshift.cli.find"], check=True)
