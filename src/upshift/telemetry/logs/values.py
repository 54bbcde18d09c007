"""What the application wants said in a line, made fit to be written: bounded, plain, and without secrets.

Whatever is handed to a logger comes here: objects that have no JSON, whose `repr` raises, that contain
themselves, and megabytes of text. None of that may cost a request, or more than a bounded part of a line.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from itertools import islice
from math import isfinite
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_TEXT = 8_000
"""Characters of one value."""

MAX_NAME = 200
"""Characters of the name of a field."""

MAX_CHARACTERS = 64_000
"""Characters of all values of a line."""

MAX_ITEMS = 100
"""Items of one collection."""

MAX_VALUES = 1_000
"""Values of a line, those in collections counted."""

MAX_DEPTH = 6
"""Collections within collections."""

REDACTED = "[redacted]"
"""Stands for the value of a field that must not be written."""

CUT = "…"
"""Stands for what was too much, or too deep."""

_INTEGERS = range(-(2**63), 2**64)  # what readers of JSON can be expected to hold
_SEQUENCES = (list, tuple, set, frozenset)


class Values:
    """Makes values fit to be written.

    Args:
        redact: names of fields whose values are never written, at any depth; upper and lower case, and
            hyphens and underscores, are the same.

    Example:
        >>> Values(["password"]).of({"user": 7, "form": {"Password": "tulip", "size": float("inf")}})
        {'user': 7, 'form': {'Password': '[redacted]', 'size': 'inf'}}
    """

    def __init__(self, redact: Iterable[str] = ()) -> None:
        self._redacted = frozenset(_folded(name) for name in redact)

    def of(self, fields: Mapping[Any, Any]) -> dict[str, Any]:
        """Return the fields with values that JSON has: text, numbers, booleans, None, lists and dicts."""
        return _Walk(self._redacted).mapping(fields, MAX_DEPTH)


class _Walk:
    """One walk through the values of a line, with what room is left."""

    __slots__ = ("_characters", "_redacted", "_values")

    def __init__(self, redacted: frozenset[str]) -> None:
        self._redacted = redacted
        self._characters = MAX_CHARACTERS
        self._values = MAX_VALUES

    def mapping(self, fields: Mapping[Any, Any], depth: int) -> dict[str, Any]:
        plain: dict[str, Any] = {}
        for key, value in islice(fields.items(), MAX_ITEMS):
            name = (key if type(key) is str else described(key))[:MAX_NAME]
            plain[name] = REDACTED if _folded(name) in self._redacted else self._value(value, depth)
        if len(fields) > MAX_ITEMS:
            plain[CUT] = f"{len(fields) - MAX_ITEMS} more"
        return plain

    def _value(self, value: Any, depth: int) -> Any:  # noqa: ANN401 - loggers are handed anything
        self._values -= 1
        if self._values < 0:
            return CUT
        kind = type(value)
        if kind is str:
            return self._text(value)
        if value is None or kind is bool:
            return value
        if kind is int:
            return value if value in _INTEGERS else self._text(described(value))
        try:
            return self._other(value, depth)
        except Exception as fault:  # noqa: BLE001 - whatever an object does when it is looked at
            return _unprintable(value, fault)

    def _other(self, value: Any, depth: int) -> Any:  # noqa: ANN401 - likewise
        if isinstance(value, float):
            return value if isfinite(value) else str(value)
        if isinstance(value, Mapping):
            return self.mapping(value, depth - 1) if depth else CUT
        if isinstance(value, _SEQUENCES):
            if not depth:
                return CUT
            items = [self._value(each, depth - 1) for each in islice(value, MAX_ITEMS)]
            return [*items, CUT] if len(value) > MAX_ITEMS else items
        return self._text(described(value))

    def _text(self, text: str) -> str:
        bound = min(MAX_TEXT, self._characters)
        shown = text if len(text) <= bound else shortened(text, bound)
        self._characters = max(0, self._characters - len(shown))
        return shown


def described(value: object) -> str:
    r"""Return an object as text, whatever it does when asked for it.

    Example:
        >>> described(b"ab\xff"), described(ValueError("odd"))
        ('ab\\xff', "ValueError('odd')")
    """
    try:
        if isinstance(value, str):
            return str.__str__(value)
        if isinstance(value, bytes | bytearray):
            return value[:MAX_TEXT].decode("utf-8", "backslashreplace")
        if isinstance(value, dt.date | dt.time):
            return value.isoformat()
        if isinstance(value, BaseException) or type(value).__str__ is object.__str__:
            return str.__str__(repr(value))
        return str.__str__(str(value))
    except Exception as fault:  # noqa: BLE001 - whatever it is
        return _unprintable(value, fault)


def shortened(text: str, bound: int) -> str:
    """Return the beginning of a text that is too long, and how much is missing.

    Example:
        >>> shortened("aaaaaaaaaa", 4)
        'aaaa… (6 more characters)'
    """
    return text if len(text) <= bound else f"{text[:bound]}{CUT} ({len(text) - bound} more characters)"


def encodable(value: Any) -> Any:  # noqa: ANN401 - anything that `Values` returns
    r"""Return the value with what UTF-8 cannot write (lone surrogates) written as escapes.

    Example:
        >>> encodable({"name": "a\ud800"})
        {'name': 'a\\ud800'}
    """
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {encodable(key): encodable(each) for key, each in value.items()}
    if isinstance(value, list):
        return [encodable(each) for each in value]
    return value


def _unprintable(value: object, fault: Exception) -> str:
    return f"<unprintable {type(value).__name__}: {type(fault).__name__}>"


def _folded(name: str) -> str:
    return name.lower().replace("_", "-")
