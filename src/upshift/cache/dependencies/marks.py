"""Marks of parameters in a text: numbers take their place, which every dialect's parser knows.

The numbers begin with digits that the text has nowhere, so that they are told from its own.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_QUOTED = r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|--[^\n]*|/\*.*?\*/"
_QMARK = re.compile(rf"{_QUOTED}|(?P<mark>\?)(?!\d)", re.DOTALL)
_OTHER = re.compile(r"(?P<mark>%\((?P<name>\w+)\)s|%s|\$(?P<number>\d+))|%%")
_PREFIXES = tuple(str(number) for number in range(7_919_000, 7_919_010))
_DIGITS = 4


class Marked(NamedTuple):
    """A text without marks.

    Attributes:
        sql: the text.
        prefix: with which the numbers begin that stand for marks; empty where the text leaves none.
        names: for each, the parameter's name or position.
    """

    sql: str
    prefix: str
    names: tuple[str | int, ...]

    def name(self, number: str) -> str | int | None:
        """Return the parameter that a number stands for; None where it is one of the text's own."""
        if not self.prefix or len(number) != len(self.prefix) + _DIGITS or not number.startswith(self.prefix):
            return None
        place = int(number[len(self.prefix) :])
        return self.names[place] if place < len(self.names) else None


def without_marks(sql: str, dialect: str) -> Marked:
    """Put a number where each mark of a parameter stands.

    Example:
        >>> marked = without_marks("SELECT * FROM a WHERE id = %(id)s", "postgresql")
        >>> marked.sql, marked.name("79190000000")
        ('SELECT * FROM a WHERE id = 79190000000', 'id')
    """
    prefix = next((each for each in _PREFIXES if each not in sql), "")
    names: list[str | int] = []

    def number(found: re.Match[str]) -> str:
        if found["mark"] is None:
            return "%" if found[0] == "%%" else found[0]
        groups = found.groupdict()
        if groups.get("name") is not None:
            names.append(groups["name"])
        elif groups.get("number") is not None:
            names.append(int(groups["number"]) - 1)
        else:
            names.append(sum(isinstance(each, int) for each in names))
        return f"{prefix}{len(names) - 1:0{_DIGITS}}" if prefix else "1"

    replaced = (_QMARK if dialect == "sqlite" else _OTHER).sub(number, sql)
    return Marked(replaced, prefix if len(names) <= 10**_DIGITS else "", tuple(names))
