"""Statements: what they cost, which line sent them, and what makes them faster.

Flows in: executions of SQLAlchemy engines (`Capture`), closed records (`StatementTable`).
Flows out: statements in records, statistics by digest, lazy loads answered in batches (`Batching`).
"""

from upshift.sql.batching import Batching, UncoveredSQLAlchemyWarning
from upshift.sql.capture import Capture
from upshift.sql.cohorts import SCHEDULE
from upshift.sql.digest import Digest, Digests, normalise
from upshift.sql.statistics import StatementStatistics, StatementTable

__all__ = [
    "SCHEDULE",
    "Batching",
    "Capture",
    "Digest",
    "Digests",
    "StatementStatistics",
    "StatementTable",
    "UncoveredSQLAlchemyWarning",
    "normalise",
]
