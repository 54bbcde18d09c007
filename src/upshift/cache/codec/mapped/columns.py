"""Columns of values: which type the values have, and how a list of them is written.

The type is taken from the values, not from the mapping: what a type decorator makes of a column, only the
values tell. A column whose values have several types, or one that is rare, is written with tags.
"""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from enum import Enum, Flag
from typing import TYPE_CHECKING, Any
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from upshift.cache.codec.tagged import Tagged

_NONE = type(None)
_BY_KIND: dict[type[Any], str] = {
    bool: "bool",
    bytes: "bytes",
    float: "float",
    int: "int",
    str: "str",
    dt.date: "date",
}
_TYPES: dict[str, Any] = {code: kind | None for kind, code in _BY_KIND.items()} | {
    "uuid": UUID | None,
    "decimal": Decimal | None,
    "moment": dt.datetime | None,
    "time": dt.time | None,
    "microseconds": int | None,
    "member": str | None,
    "none": None,
    "tagged": Any,
}
_IN_ZONE = "moment in "
_IN_UTC = "moment in UTC"
_MICROSECOND = dt.timedelta(microseconds=1)
_ENCODER = msgspec.msgpack.Encoder(uuid_format="bytes")


class Columns:
    """Reads the columns of a group.

    Args:
        codes: a code for each.
        enums: the enumeration that each one's values are members of; None for others.
        tagged: reads what has no code of its own.

    Raises:
        KeyError: there is no such code.
    """

    def __init__(self, codes: Sequence[str], enums: Sequence[type[Enum] | None], tagged: Tagged) -> None:
        # The decoder sees to it that there are as many columns as types.
        types = tuple(list[_TYPES[code.partition(" in ")[0]]] for code in codes)  # type: ignore[misc]
        self._decoder = msgspec.msgpack.Decoder(tuple[types], ext_hook=tagged.hook)  # type: ignore[valid-type]
        finishers = [_finisher(code, enum) for code, enum in zip(codes, enums, strict=True)]
        self._finishers = [(at, finish) for at, finish in enumerate(finishers) if finish is not None]

    def decode(self, data: msgspec.Raw) -> list[list[Any]]:
        """Return the columns, each a list of values.

        Raises:
            Exception: of many kinds, where the data does not fit.
        """
        columns: list[list[Any]] = list(self._decoder.decode(data))
        for at, finish in self._finishers:
            columns[at] = [None if value is None else finish(value) for value in columns[at]]
        return columns


def encode_columns(
    columns: Sequence[list[Any]], enums: Sequence[type[Enum] | None], tagged: Tagged
) -> tuple[list[str], msgspec.Raw]:
    """Return the codes of columns, and the columns as bytes.

    Args:
        columns: the values of each.
        enums: the enumeration that each one's values are members of; None for others.
        tagged: writes what has no code of its own.

    Raises:
        CodecError: a value has a type that is not known.
    """
    written = [_written(values, enum, tagged) for values, enum in zip(columns, enums, strict=True)]
    return [code for code, _ in written], msgspec.Raw(_ENCODER.encode([data for _, data in written]))


def _written(values: list[Any], enum: type[Enum] | None, tagged: Tagged) -> tuple[str, msgspec.Raw]:
    code, ready = _ready(values, enum)
    if code != "tagged":
        try:
            return code, msgspec.Raw(_ENCODER.encode(ready))
        except OverflowError:  # a number beyond 64 bits
            pass
    return "tagged", msgspec.Raw(tagged.encode(values))


def _ready(  # noqa: PLR0911 - one for each kind of type
    values: list[Any], enum: type[Enum] | None
) -> tuple[str, list[Any]]:
    """Return the code of a column's type, and its values as they are encoded."""
    kinds = set(map(type, values)) - {_NONE}
    if len(kinds) != 1:
        return ("tagged" if kinds else "none"), values
    (kind,) = kinds
    if issubclass(kind, UUID):  # asyncpg has a class of its own for them
        return "uuid", [None if each is None else UUID(int=each.int) for each in values]
    if kind in _BY_KIND:
        return _BY_KIND[kind], values
    if kind is Decimal:
        is_finite = all(each is None or each.is_finite() for each in values)
        return ("decimal" if is_finite else "tagged"), values
    if kind is dt.timedelta:
        return "microseconds", [None if each is None else each // _MICROSECOND for each in values]
    if kind in {dt.datetime, dt.time}:
        return _code_of_times(kind, [each for each in values if each is not None]), values
    if kind is enum and not issubclass(kind, Flag):
        return "member", [None if each is None else each.name for each in values]
    return "tagged", values


def _code_of_times(kind: type[Any], times: list[Any]) -> str:
    zones = {each.tzinfo for each in times}
    if len(zones) != 1 or any(each.fold for each in times):
        return "tagged"
    (zone,) = zones
    if kind is dt.time:
        return "time" if zone is None else "tagged"
    if zone is None:
        return "moment"
    if zone is dt.UTC:
        return _IN_UTC
    if (
        isinstance(zone, ZoneInfo)
        and zone.key not in {None, "UTC"}
        and all(_is_there(each) for each in times)
    ):
        return f"{_IN_ZONE}{zone.key}"
    return "tagged"


def _is_there(moment: dt.datetime) -> bool:
    """Whether a moment is the same after a way through UTC: not while clocks are put forward."""
    try:
        return moment.astimezone(dt.UTC).astimezone(moment.tzinfo) == moment
    except OverflowError:
        return False


def _finisher(code: str, enum: type[Enum] | None) -> Callable[[Any], Any] | None:
    """Return what makes values of what the decoder brought; None where it brings them itself."""
    if code == "member":
        if enum is None:
            raise KeyError(code)
        return enum.__members__.__getitem__
    if code == "microseconds":
        return lambda value: dt.timedelta(microseconds=value)
    if code.startswith(_IN_ZONE) and code != _IN_UTC:
        zone = ZoneInfo(code.removeprefix(_IN_ZONE))
        return lambda value: value.astimezone(zone)
    return None
