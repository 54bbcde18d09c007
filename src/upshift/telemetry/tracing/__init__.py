"""Makes spans of closed records, and sends them through OpenTelemetry's SDK.

Flows in: closed records.
Flows out: spans, by OTLP.
"""

from upshift.telemetry.tracing.export import SpanExport
from upshift.telemetry.tracing.sampling import HeadSampling

__all__ = ["HeadSampling", "SpanExport"]
