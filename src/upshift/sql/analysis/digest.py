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

MAX_CHARACTERS = 16_000_000
"""Characters of all remembered texts together: a few bulk statements may weigh as much as all others."""

MAX_DIGEST_CHARACTERS = 4_000
"""Characters of normalised text kept for display; the identifier covers the whole text."""

# What is opened and never closed runs to the end of the text, so each alternative reads a character once.
_TOKENS = re.compile(
    r"""
      (?P<space>    (?: \s+ | --[^\n]* | /\*.*?(?:\*/|\Z) )+ )
    | (?P<quoted>   "(?:[^"]|"")*" | `[^`]*` | \[[A-Za-z_][^\[\]\n]*\] )
    | (?P<value>    (?: \bE'(?:[^'\\]|''|\\.)*(?:'|\Z)
                      # A backslash before the closing quote is text in standard SQL and an escape in MySQL's.
                      | (?:\b[BXN])?'(?: [^'\\] | '' | \\'(?![\s,;)|:]|\Z) | \\ )*(?:'|\Z)
                      | \$(?P<tag>[A-Za-z_]\w*|)\$.*?(?:\$(?P=tag)\$|\Z)
                      | %\(\w+\)s | %s | \$\d+ | (?<![:\w]):[A-Za-z_]\w* | \?\d*
                      | (?<![\w.])[+-]?(?:0X[0-9A-F]+|\d+(?:\.\d*)?(?:E[+-]?\d+)?|\.\d+)(?!\w)
                    )
                    (?: ::\s*[\w."]+ (?:\s+(?:VARYING|PRECISION))?
                        (?:\(\d+(?:,\s*\d+)?\))? (?:\s+WITH(?:OUT)?\s+TIME\s+ZONE)? (?:\[\])* )? )
    """,
    re.VERBOSE | re.DOTALL | re.IGNORECASE,
)
_VALUE_LIST = re.compile(r"\( ?\?(?: ?, ?\?)* ?\)")
_ROW_LISTS = re.compile(r"\(\.\.\.\)(?: ?, ?\(\.\.\.\))+")
_NESTED_LIST = re.compile(r"\b(IN|VALUES) ?\( ?\(\.\.\.\) ?\)", re.IGNORECASE)


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
    if kind == "value":
        return "?"
    return " " if kind == "space" else match.group()


class Digests:
    """Digests by statement text, remembered for at most `MAX_TEXTS` texts and `MAX_CHARACTERS`.

    Example:
        >>> digests = Digests()
        >>> digests.of("SELECT 1").id == digests.of("SELECT 2").id
        True
    """

    def __init__(self) -> None:
        self._by_text: dict[str, Digest] = {}
        self._characters = 0

    def of(self, sql: str) -> Digest:
        """Return the digest of a statement."""
        digest = self._by_text.get(sql)
        if digest is None:
            text = normalise(sql)
            identifier = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
            digest = Digest(identifier, text[:MAX_DIGEST_CHARACTERS])
            if len(self._by_text) >= MAX_TEXTS or self._characters + len(sql) > MAX_CHARACTERS:
                # Whatever is hot comes back at once; an LRU would cost every hit to spare a rare refill.
                self._by_text.clear()
                self._characters = 0
            self._by_text[sql] = digest
            self._characters += len(sql)
        return digest
