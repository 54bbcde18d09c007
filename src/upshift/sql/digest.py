"""Statement digests: one name for all executions that differ only in values.

Two statements have the same digest when they differ in literals, in placeholders, in white space and
comments, in the length of an IN list or in the number of VALUES rows. The text is read once for each
distinct text (`Digests` remembers it), never for each execution, and never parsed: one pass of one regular
expression, in the manner of `pg_stat_statements` (PostgreSQL documentation, F.32).
"""

from __future__ import annotations

import re
from hashlib import blake2b
from typing import NamedTuple

MAX_TEXTS = 4_096
"""Distinct statement texts remembered. Expanding IN lists mint new texts, so the table is bounded."""

MAX_DIGEST_CHARACTERS = 4_000
"""Characters of normalised text kept for display; the identifier covers the whole text."""

_TOKENS = re.compile(
    r"""
      (?P<comment>  --[^\n]* | /\*.*?\*/ )
    | (?P<quoted>   "(?:[^"]|"")*" | `[^`]*` | \[[A-Za-z_][^\]\n]*\] )
    | (?P<value>    (?:\b[EeBbXxNn])?'(?:[^'\\]|''|\\.)*'
                  | \$(?P<tag>[A-Za-z_]\w*|)\$.*?\$(?P=tag)\$
                  | (?: %\(\w+\)s | %s | \$\d+ | (?<![:\w]):[A-Za-z_]\w* | \?\d* )
                    (?: ::\s*\w+ (?:\s+(?:VARYING|PRECISION|WITH(?:OUT)?\s+TIME\s+ZONE))?
                        (?:\(\d+(?:,\s*\d+)?\))? (?:\[\])* )?
                  | (?<![\w.])[+-]?(?:0[xX][0-9a-fA-F]+|\d+(?:\.\d*)?(?:[eE][+-]?\d+)?|\.\d+)(?![\w]) )
    | (?P<space>    \s+ )
    """,
    re.VERBOSE | re.DOTALL | re.IGNORECASE,
)
_VALUE_LIST = re.compile(r"\(\s*\?(?:\s*,\s*\?)*\s*\)")
_ROW_LISTS = re.compile(r"\(\.\.\.\)(?:\s*,\s*\(\.\.\.\))+")
_NESTED_LIST = re.compile(r"\b(IN|VALUES)\s*\(\s*\(\.\.\.\)\s*\)", re.IGNORECASE)


class Digest(NamedTuple):
    """What a group of statements has in common.

    Attributes:
        id: 16 hexadecimal digits, stable across processes and releases of Python.
        text: the statement with `?` for values and `(...)` for lists of values.
    """

    id: str
    text: str


def normalise(sql: str) -> str:
    """Return the statement with values and lists of values taken out.

    Example:
        >>> normalise("SELECT  name FROM users WHERE id IN (1, 2, 3) AND city = 'Taipei' -- hot")
        'SELECT name FROM users WHERE id IN (...) AND city = ?'
    """
    text = _TOKENS.sub(_replace, sql).strip()
    text = _VALUE_LIST.sub("(...)", text)
    text = _ROW_LISTS.sub("(...)", text)
    return _NESTED_LIST.sub(r"\1 (...)", text)


def _replace(match: re.Match[str]) -> str:
    kind = match.lastgroup
    if kind == "quoted":
        return match.group()
    return " " if kind in {"space", "comment"} else "?"


class Digests:
    """Digests by statement text, remembered for the last `MAX_TEXTS` texts.

    Example:
        >>> digests = Digests()
        >>> digests.of("SELECT 1").id == digests.of("SELECT 2").id
        True
    """

    def __init__(self) -> None:
        self._by_text: dict[str, Digest] = {}

    def of(self, sql: str) -> Digest:
        """Return the digest of a statement."""
        digest = self._by_text.get(sql)
        if digest is None:
            text = normalise(sql)
            identifier = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
            digest = Digest(identifier, text[:MAX_DIGEST_CHARACTERS])
            if len(self._by_text) >= MAX_TEXTS:
                # Whatever is hot comes back at once; an LRU would cost every hit to spare a rare refill.
                self._by_text.clear()
            self._by_text[sql] = digest
        return digest
