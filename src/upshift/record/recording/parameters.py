"""Parameters of statements as JSON, and back.

JSON has no dates, decimals or bytes, so those stand in an object that names their type: {"$": "date", "v":
"2026-11-30"}. What has no such form here, such as a driver's own wrapper, is recorded as its type's name
only, and a statement that has such a parameter cannot be sent again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from math import isfinite
from typing import TYPE_CHECKING, Any
from uuid import UUID

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_TEXT = 20_000
"""Characters or bytes of one value; a longer one is not recorded."""

MAX_VALUES = 2_000
"""Values of one statement; with more of them none is recorded."""

MAX_BITS = 4_096
"""Bits of a whole number."""

_PLAIN = frozenset({bool, float, int, str, type(None)})
_WHOLE = 2**63  # what JSON's readers have for whole numbers


@dataclass(frozen=True, slots=True)
class Unrecorded:
    """A value that could not be recorded.

    Attributes:
        kind: the name of its type.
    """

    kind: str


_WRITE: dict[type, tuple[str, Callable[[Any], str]]] = {
    datetime: ("datetime", datetime.isoformat),
    date: ("date", date.isoformat),
    time: ("time", time.isoformat),
    timedelta: ("timedelta", lambda value: f"{value.days} {value.seconds} {value.microseconds}"),
    Decimal: ("decimal", str),
    UUID: ("uuid", str),
    bytes: ("bytes", bytes.hex),
}
_READ: dict[str, Callable[[str], Any]] = {
    "datetime": datetime.fromisoformat,
    "date": date.fromisoformat,
    "time": time.fromisoformat,
    "timedelta": lambda text: timedelta(*map(int, text.split(" "))),
    "decimal": Decimal,
    "uuid": UUID,
    "bytes": bytes.fromhex,
    "int": int,
    "float": float,
}


def to_json(parameters: object) -> Any:  # noqa: ANN401 - any JSON value
    """Return the parameters of one execution as JSON has them.

    Example:
        >>> to_json((7, Decimal("1.50")))
        [7, {'$': 'decimal', 'v': '1.50'}]
        >>> from_json(to_json({"day": date(2026, 11, 30)}))
        {'day': datetime.date(2026, 11, 30)}
    """
    left = [MAX_VALUES]
    if isinstance(parameters, Mapping):
        written: Any = {str(name): _written(value, left) for name, value in parameters.items()}
    elif isinstance(parameters, tuple | list):
        written = [_written(value, left) for value in parameters]
    else:
        written = _unrecorded(parameters)
    return written if left[0] >= 0 else _unrecorded(parameters)


def from_json(written: object) -> Any:  # noqa: ANN401 - as they were given to the driver
    """Return what `to_json` was given, with `Unrecorded` in the place of what it could not write.

    Raises:
        ValueError: it is not what `to_json` returns.
    """
    if isinstance(written, dict) and "$" not in written:
        return {name: _read(value) for name, value in written.items()}
    return tuple(map(_read, written)) if isinstance(written, list) else _read(written)


def is_recorded(parameters: object) -> bool:
    """Tell whether nothing of the parameters is missing."""
    match parameters:
        case Unrecorded():
            return False
        case Mapping():
            return all(map(is_recorded, parameters.values()))
        case str() | bytes():
            return True
        case Sequence():
            return all(map(is_recorded, parameters))
        case _:
            return True


def _unrecorded(value: object) -> dict[str, Any]:
    return {"$": "unrecorded", "v": type(value).__name__}


def _written(value: object, left: list[int]) -> Any:  # noqa: ANN401 - any JSON value
    left[0] -= 1
    if left[0] < 0:
        return None
    match value:
        case list() | tuple():
            kind = "tuple" if isinstance(value, tuple) else "list"
            return {"$": kind, "v": [_written(each, left) for each in value]}
        case dict():
            return {"$": "dict", "v": {str(name): _written(each, left) for name, each in value.items()}}
        case _:
            return _scalar(value)


def _scalar(value: Any) -> Any:  # noqa: ANN401 - any value, any JSON value
    kind = type(value)
    if kind in _WRITE and (kind is not bytes or len(value) <= MAX_TEXT):
        name, write = _WRITE[kind]
        return {"$": name, "v": write(value)}
    if kind is int and not -_WHOLE <= value < _WHOLE:
        return {"$": "int", "v": str(value)} if value.bit_length() <= MAX_BITS else _unrecorded(value)
    if kind is float and not isfinite(value):
        return {"$": "float", "v": str(value)}
    is_plain = kind in _PLAIN and (kind is not str or len(value) <= MAX_TEXT)
    return value if is_plain else _unrecorded(value)


def _read(written: object) -> Any:  # noqa: ANN401 - any value
    match written:
        case {"$": "unrecorded", "v": str(kind)}:
            return Unrecorded(kind)
        case {"$": "list", "v": list(values)}:
            return [_read(each) for each in values]
        case {"$": "tuple", "v": list(values)}:
            return tuple(_read(each) for each in values)
        case {"$": "dict", "v": dict(values)}:
            return {name: _read(each) for name, each in values.items()}
        case {"$": str(kind), "v": str(text)} if kind in _READ and len(text) <= 2 * MAX_TEXT:
            try:
                return _READ[kind](text)
            except (ArithmeticError, TypeError, ValueError) as error:
                raise ValueError(f"a parameter is no {kind}") from error
        case None | bool() | int() | float() | str():
            return written
        case _:
            raise ValueError("a parameter is of an unknown kind")
