"""What a value depends on, and what a transaction has changed: taken from the statements themselves."""

from upshift.cache.dependencies.reading import CURRENT, Reading, reading
from upshift.cache.dependencies.tables import EVERYTHING, StatementTables, Tables, table_tag
from upshift.cache.dependencies.transactions import WRITING, CommitHooks, written_here

__all__ = [
    "CURRENT",
    "EVERYTHING",
    "WRITING",
    "CommitHooks",
    "Reading",
    "StatementTables",
    "Tables",
    "reading",
    "table_tag",
    "written_here",
]
