"""Writes what the application logs, and a line for each request.

Flows in: what is logged through `logging` or structlog, and closed records.
Flows out: lines on standard error, in a file, and those of errors in a file of their own.
"""

from upshift.telemetry.logs.access import AccessLog
from upshift.telemetry.logs.formatter import Formatter, StructlogRenderer
from upshift.telemetry.logs.installed import Logs, install

__all__ = ["AccessLog", "Formatter", "Logs", "StructlogRenderer", "install"]
