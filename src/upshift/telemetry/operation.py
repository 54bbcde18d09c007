"""What a statement does, in one word, for the metrics and the spans of statements alike."""

from __future__ import annotations

import re

# Possessive, so a text that never comes to a word is read once.
_OPERATION = re.compile(r"(?:[\s(]|--[^\n]*+|/\*.*?\*/)*+([A-Za-z]+)", re.DOTALL)


def operation_of(sql: str) -> str:
    """Return a statement's first word in upper case, whatever white space, comment or bracket is before it.

    Args:
        sql: the statement's text.

    Returns:
        "" where it does not begin with a word.

    Example:
        >>> operation_of("/* hot */ select" + chr(10) + "    1"), operation_of("?")
        ('SELECT', '')
    """
    match = _OPERATION.match(sql)
    return match[1].upper() if match else ""
