"""Several workers as one: adds up what the processes of one server count.

Flows in: the series of each process.
Flows out: their sums, through one file of a fixed size.
"""

from upshift.telemetry.sharing.metrics import SharedMetrics
from upshift.telemetry.sharing.path import find_path
from upshift.telemetry.sharing.totals import SharedTotals

__all__ = ["SharedMetrics", "SharedTotals", "find_path"]
