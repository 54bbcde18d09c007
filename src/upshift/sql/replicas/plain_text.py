"""Whether a piece of SQL text only reads, told from its words alone.

The answer is yes only where it is certain. What is certain needs no grammar: each function called is known to
read, and no word is there with which a SELECT writes or locks. A text with anything that would need a closer
look (comments, semicolons, backslashes, dollar quotes, `FOR` in any sense) is not certain.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Container

MAX_LENGTH = 16_384
"""Characters of a text that is looked at."""

SYNTAX = frozenset(
    """
    coalesce nullif greatest least grouping rollup cube sets cast trim extract substring position overlay
    current_timestamp current_date current_time localtime localtimestamp current_user session_user
    current_role current_catalog current_schema user
    """.split()  # noqa: SIM905 - words read better than a column of quotes
)
"""What looks like a function and is a part of the language."""

_BEFORE_PARENTHESIS = SYNTAX | frozenset(
    """
    all and any array as between by case distinct else except exists filter from group having ilike in
    intersect interval is join lateral like limit not offset on or order over partition row select similar
    some then to union using values when where with
    bit char character decimal float numeric time timestamp timestamptz varchar varying
    """.split()  # noqa: SIM905 - likewise
)
_WRITES = frozenset(["insert", "update", "delete", "merge", "into", "for", "lock", "call", "do", "copy"])
_UNCERTAIN = re.compile(r"[;\\$\0]|--|/\*")
_TOKEN = re.compile(
    r"""'[^']*' | "[^"]*"(?P<quoted>\s*\()? | (?P<word>[^\W\d]\w*)(?P<called>\s*\()? | (?P<open>['"])""",
    re.VERBOSE,
)
_READING = re.compile(r"[\s(]*(?:select|with|values|table)\b", re.IGNORECASE)


def reads_only(sql: str, functions: Container[str], *, is_fragment: bool = False) -> bool:
    """Tell whether a text is certain to read only.

    Args:
        sql: the text.
        functions: the names, in lower case, of functions that are known to read only.
        is_fragment: it is a part of a statement, and not one by itself.

    Example:
        >>> reads_only("SELECT lower(name) FROM item WHERE id = :id", {"lower"})
        True
        >>> reads_only("SELECT nextval('item_id')", {"lower"})
        False
        >>> reads_only("WITH gone AS (DELETE FROM item RETURNING id) SELECT * FROM gone", {"lower"})
        False
    """
    if len(sql) > MAX_LENGTH or _UNCERTAIN.search(sql):
        return False
    if not is_fragment and not _READING.match(sql):
        return False
    for token in _TOKEN.finditer(sql):
        if token["open"] or token["quoted"]:
            return False
        word = token["word"]
        if word is None:
            continue
        word = word.lower()
        if word in _WRITES:
            return False
        if token["called"] and word not in _BEFORE_PARENTHESIS and word not in functions:
            return False
    return True
