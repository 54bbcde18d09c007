"""What a value depends on, and what a transaction has changed: taken from the statements themselves."""

from upshift.cache.dependencies.effects import Tables
from upshift.cache.dependencies.names import EVERYTHING, row_tag, rows_tag, table_tag, whole_tables
from upshift.cache.dependencies.reading import CURRENT, Reading, reading
from upshift.cache.dependencies.tables import StatementTables
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
    "row_tag",
    "rows_tag",
    "table_tag",
    "whole_tables",
    "written_here",
]
