"""What is told of statements' parameters without keeping them.

It is which of them were equal, how deep a page lies, and whether a pattern begins with a wildcard. A
statement refers to its parameters until its record is complete. Then they are looked at, and let go of.
"""

from __future__ import annotations

import re
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from upshift.record.fingerprint import comparable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from upshift.record.model import Statement

MAX_TEXT = 20_000
"""Characters of a statement that is searched for its offset and its patterns."""

_PLACE = r"(?:(?P<literal>\d+)|%\((?P<name>[^()]+)\)s|\$(?P<number>\d+)|(?P<nameless>%s|\?))"
_OFFSET = re.compile(rf"\bOFFSET\s+{_PLACE}", re.IGNORECASE)
_LIKE = re.compile(rf"\bI?LIKE\s+{_PLACE}", re.IGNORECASE)
_WILDCARDS = ("%", "_")
_SELECT = ("SELECT", "select")


def note_parameters(statements: Iterable[Statement]) -> None:
    """Tell what there is to tell of statements' parameters, and let go of them; twice changes nothing.

    Example:
        >>> from upshift.record.model import Statement
        >>> page = Statement("SELECT a FROM t LIMIT ? OFFSET ?", 0.0)
        >>> page.bound = (20, 41_980)
        >>> note_parameters([page])
        >>> page.offset, page.bound
        (40000, None)
    """
    by_text: dict[str, list[Statement]] = defaultdict(list)
    for statement in statements:
        if statement.bound is not None:
            by_text[statement.sql].append(statement)
    for sql, alike in by_text.items():
        if not sql.startswith(_SELECT):
            for statement in alike:
                statement.bound = None
            continue
        is_searched = len(sql) <= MAX_TEXT
        has_offset = is_searched and ("OFFSET" in sql or "offset" in sql)
        has_pattern = is_searched and ("LIKE" in sql or "like" in sql)
        different: dict[str, int] = {}
        for statement in alike:
            if len(alike) > 1 and (text := comparable(statement.bound)) is not None:
                statement.fingerprint = different.setdefault(text, len(different))
            if has_offset:
                offsets = (each for each in _values(_OFFSET, statement) if type(each) is int)
                statement.offset = max(map(_first_digit, offsets), default=0)
            if has_pattern:
                statement.has_open_pattern = any(
                    isinstance(each, str) and each.startswith(_WILDCARDS)
                    for each in _values(_LIKE, statement)
                )
            statement.bound = None


def _values(place: re.Pattern[str], statement: Statement) -> Iterator[Any]:
    """The values that are bound where a pattern matches, as far as they can be told."""
    sql, bound = statement.sql, statement.bound
    for match in place.finditer(sql):
        if match["literal"]:
            yield int(match["literal"][:20])
        elif isinstance(bound, dict):
            yield bound.get(match["name"])
        elif match["number"] and int(match["number"][:5]) <= len(bound):
            yield bound[int(match["number"][:5]) - 1]
        elif (mark := match["nameless"]) and sql.count(mark) == len(bound):  # else one stands in a text
            yield bound[sql.count(mark, 0, match.start("nameless"))]


def _first_digit(number: int) -> int:
    """Round down to one digit that is not zero: 41,980 to 40,000."""
    if not 0 < number < 1 << 63:
        return 0
    power: int = 10 ** (len(str(number)) - 1)
    return number // power * power
