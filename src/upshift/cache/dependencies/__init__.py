"""What a value depends on, and what a transaction has changed: taken from the statements themselves."""

from upshift.cache.dependencies.reading import Reading, current_reading, reading
from upshift.cache.dependencies.tables import EVERYTHING, StatementTables, Tables, table_tag
from upshift.cache.dependencies.transactions import CommitHooks, written_here

__all__ = [
    "EVERYTHING",
    "CommitHooks",
    "Reading",
    "StatementTables",
    "Tables",
    "current_reading",
    "reading",
    "table_tag",
    "written_here",
]
