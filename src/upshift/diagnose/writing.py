"""Which statements write or lock, by their text."""

from __future__ import annotations

import re

_WRITE = re.compile(
    r"\s*(?:INSERT|UPDATE|DELETE|MERGE|REPLACE)\b|.*\bFOR\s+(?:NO KEY\s+)?(?:UPDATE|SHARE|KEY SHARE)\b",
    re.IGNORECASE | re.DOTALL,
)
_INSERT = re.compile(r"\s*INSERT\b", re.IGNORECASE)
_READ = re.compile(r"\s*SELECT\b.*?\sFROM\s", re.IGNORECASE | re.DOTALL)


def is_write(sql: str) -> bool:
    """Whether a statement changes rows, or locks them.

    Example:
        >>> is_write("UPDATE t SET a = ?"), is_write("SELECT a FROM t FOR UPDATE"), is_write("SELECT 1")
        (True, True, False)
    """
    return _WRITE.match(sql) is not None


def is_insert(sql: str) -> bool:
    """Whether a statement adds rows."""
    return _INSERT.match(sql) is not None


def is_read(sql: str) -> bool:
    """Whether a statement reads tables, and neither writes nor locks.

    Example:
        >>> is_read("SELECT a FROM t"), is_read("SELECT pg_advisory_lock(1)")
        (True, False)
    """
    return _READ.match(sql) is not None and not is_write(sql)
