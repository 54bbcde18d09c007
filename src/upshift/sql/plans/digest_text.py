"""A digest's text made a statement again, as far as that goes: with placeholders where its values were."""

from __future__ import annotations

import re
from itertools import count

# Quoted names are consumed whole. `?|` and `?&` are operators of jsonb's; a lone `?` is taken for a value.
_VALUES = re.compile(r'"(?:[^"]|"")*+(?:"|\Z)|(?P<list>\(\.\.\.\))|(?P<value>\?)(?![|&])')


def explainable(text: str, dialect: str) -> str:
    """Return the text of a digest with placeholders that the database knows.

    Args:
        text: the text, with `?` for a value and `(...)` for a list of them, which becomes a list of one.
        dialect: "postgresql" or another.

    Example:
        >>> explainable("SELECT * FROM t WHERE a = ? AND b IN (...)", "postgresql")
        'SELECT * FROM t WHERE a = $1 AND b IN ($2)'
    """
    numbers = count(1)

    def replace(match: re.Match[str]) -> str:
        if match["list"] is None and match["value"] is None:
            return match[0]
        placeholder = f"${next(numbers)}" if dialect == "postgresql" else "?"
        return f"({placeholder})" if match["list"] else placeholder

    return _VALUES.sub(replace, text)
