"""Values that say themselves what they are: msgpack, with a tag where it has no type for something.

What JSON knows is plain msgpack, written and read in C. Everything else is an extension whose number names
its type. Classes with fields are named by their number among those that the annotation has, never by a name
from the data, so nothing that is read can choose what is made.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Protocol
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec
from msgspec.msgpack import Ext
from sqlalchemy import Row
from sqlalchemy.dialects.postgresql.ranges import MultiRange, Range
from sqlalchemy.engine import IteratorResult
from sqlalchemy.engine.result import SimpleResultMetaData
from sqlalchemy.ext.mutable import Mutable

from upshift.cache.codec.instances import made_again, state_of
from upshift.cache.codec.shape import mapper_of
from upshift.errors import CodecError

if TYPE_CHECKING:
    from collections.abc import Sequence

_MOMENT, _DATE, _TIME, _TIMEDELTA, _PAIRS, _BYTEARRAY, _RANGE, _ROWS, _ROW = range(1, 10)
_INSTANCE, _OBJECT, _OBJECTS, _MULTIRANGE = range(10, 14)
_COLLECTIONS: dict[type[Any], int] = {tuple: 20, set: 21, frozenset: 22}
_BY_TEXT: dict[type[Any], int] = {
    int: 30,  # beyond 64 bits
    complex: 31,
    Decimal: 32,
    Fraction: 33,
    UUID: 34,
    ipaddress.IPv4Address: 35,
    ipaddress.IPv6Address: 36,
    ipaddress.IPv4Interface: 37,
    ipaddress.IPv6Interface: 38,
    ipaddress.IPv4Network: 39,
    ipaddress.IPv6Network: 40,
}
_NATIVE = frozenset({bool, bytes, float, str, type(None)})
_ENCODER = msgspec.msgpack.Encoder()

Hook = Callable[[int, memoryview], Any]


class Objects(Protocol):
    """Where mapped objects of a value are found when it is read."""

    def __getitem__(self, number: int) -> Any:
        """Return the object with a number."""

    def run(self, first: int, end: int) -> list[Any]:
        """Return the objects with the numbers from `first` on, below `end`."""


class Gathered(Protocol):
    """Where mapped objects of a value are gathered while it is written."""

    def add(self, value: Any) -> int:
        """Take in an object; return its number."""


class Tagged:
    """Writes values with tags, and reads them.

    Args:
        classes: classes whose instances may be among the values.
        advice: what to do about a value that cannot be written.

    Example:
        >>> tagged = Tagged()
        >>> tagged.decode(tagged.encode({"price": Decimal("9.50"), "sizes": (1, 2)}))
        {'price': Decimal('9.50'), 'sizes': (1, 2)}
    """

    def __init__(
        self, classes: Sequence[type[Any]] = (), advice: str = "return builtins, or leave it out"
    ) -> None:
        self._classes = tuple(classes)
        self._numbers = {kind: number for number, kind in enumerate(classes)}
        self._advice = advice
        self._writers: dict[type[Any], Callable[[Any, Gathered | None], Any]] = {
            list: self._list,
            dict: self._dict,
            bytearray: lambda value, _: _ext(_BYTEARRAY, bytes(value)),
            dt.datetime: _timed,
            dt.time: _timed,
            dt.date: lambda value, _: _ext(_DATE, value.toordinal()),
            dt.timedelta: lambda value, _: _ext(_TIMEDELTA, [value.days, value.seconds, value.microseconds]),
            Row: self._row,
            Range: self._range,
            MultiRange: lambda value, objects: _ext(
                _MULTIRANGE, [self._range(each, objects) for each in value]
            ),
            **dict.fromkeys(_COLLECTIONS, self._collection),
            **dict.fromkeys(_BY_TEXT, _text),
            **dict.fromkeys(self._classes, self._instance),
        }

    def encode(self, value: Any, objects: Gathered | None = None) -> bytes:
        """Return a value as bytes.

        Args:
            value: the value.
            objects: takes in what is mapped in it; without one nothing may be.

        Raises:
            CodecError: something in it has a type that is not known here.
            OverflowError, RecursionError, UnicodeEncodeError: it holds what cannot be written.
        """
        return _ENCODER.encode(self.plain(value, objects))

    def decode(self, data: bytes | memoryview | msgspec.Raw, objects: Objects | None = None) -> Any:
        """Return the value that was written.

        Raises:
            Exception: of many kinds, where the data is no value.
        """

        def hook(code: int, inner: memoryview) -> Any:
            return self._read(code, inner, hook, objects)

        return msgspec.msgpack.Decoder(ext_hook=hook).decode(data)

    def hook(self, code: int, data: memoryview) -> Any:
        """Return what an extension stands for: to be given to a decoder of msgspec's."""
        return self._read(code, data, self.hook, None)

    def plain(self, value: Any, objects: Gathered | None = None) -> Any:
        """Return a value as msgpack has it, with extensions for what it has not."""
        kind = type(value)
        if kind in _NATIVE or (kind is int and -(1 << 63) <= value < 1 << 64):
            return value
        writer = self._writers.get(kind)
        if writer is not None:
            return writer(value, objects)
        if issubclass(kind, UUID):  # asyncpg has a class of its own for them
            return self.plain(UUID(int=value.int), objects)
        if issubclass(kind, Mutable):  # it becomes that again when the object's "load" event is sent
            builtin: Any = next((each for each in (dict, list, set) if issubclass(kind, each)), None)
            if builtin is not None:
                return self.plain(builtin(value), objects)
        if objects is not None and mapper_of(kind) is not None:
            return _ext(_OBJECT, objects.add(value))
        raise CodecError(f"a {kind.__module__}.{kind.__qualname__} cannot be cached as bytes: {self._advice}")

    def _list(self, values: list[Any], objects: Gathered | None) -> Any:
        kinds = set(map(type, values))
        if objects is not None and kinds and all(mapper_of(kind) is not None for kind in kinds):
            numbers = [objects.add(each) for each in values]
            first, last = numbers[0], numbers[-1]
            is_run = numbers == list(range(first, last + 1))
            return _ext(_OBJECTS, [first, last + 1] if is_run else [numbers])
        if kinds == {Row} and len({each._fields for each in values}) == 1:
            rows = [[self.plain(part, objects) for part in each] for each in values]
            return _ext(_ROWS, [values[0]._fields, rows])
        return [self.plain(each, objects) for each in values]

    def _dict(self, value: dict[Any, Any], objects: Gathered | None) -> Any:
        if set(map(type, value)) <= {str}:
            return {name: self.plain(each, objects) for name, each in value.items()}
        pairs = [[self.plain(key, objects), self.plain(each, objects)] for key, each in value.items()]
        return _ext(_PAIRS, pairs)

    def _collection(self, value: Any, objects: Gathered | None) -> Ext:
        return _ext(_COLLECTIONS[type(value)], [self.plain(each, objects) for each in value])

    def _range(self, value: Range[Any], objects: Gathered | None) -> Ext:
        lower, upper = self.plain(value.lower, objects), self.plain(value.upper, objects)
        return _ext(_RANGE, [lower, upper, value.bounds, value.empty])

    def _row(self, value: Row[Any], objects: Gathered | None) -> Ext:
        return _ext(_ROW, [value._fields, [self.plain(each, objects) for each in value]])

    def _instance(self, value: Any, objects: Gathered | None) -> Ext:
        state = self.plain(state_of(value), objects)
        return _ext(_INSTANCE, [self._numbers[type(value)], state])

    def _read(self, code: int, data: memoryview, hook: Hook, objects: Objects | None) -> Any:
        if code in _TEXT_READERS:
            return _TEXT_READERS[code](str(data, "ascii"))
        inner = msgspec.msgpack.Decoder(ext_hook=hook).decode(data)
        if code in _READERS:
            return _READERS[code](inner)
        if code == _INSTANCE:
            number, state = inner
            return made_again(self._classes[number], state)
        if code == _OBJECT and objects is not None:
            return objects[inner]
        if code == _OBJECTS and objects is not None:
            return [objects[number] for number in inner[0]] if len(inner) == 1 else objects.run(*inner)
        raise CodecError(f"a kept value has a tag {code} that is not known here")


def _ext(code: int, inner: Any) -> Ext:
    return Ext(code, _ENCODER.encode(inner))


def _text(value: Any, _: Gathered | None) -> Ext:
    return Ext(_BY_TEXT[type(value)], str(value).encode())


def _timed(value: dt.datetime | dt.time, _: Gathered | None) -> Ext:
    """A moment or a time of day: its text, which has an offset; or the name of its zone; and its fold."""
    zone, name = value.tzinfo, None
    if isinstance(zone, ZoneInfo) and zone.key:
        value, name = value.replace(tzinfo=None), zone.key
    elif zone is not None and type(zone) is not dt.timezone:
        raise CodecError(f"a time with a {type(zone).__qualname__} cannot be cached as bytes: use zoneinfo")
    code = _MOMENT if isinstance(value, dt.datetime) else _TIME
    return _ext(code, [value.isoformat(), name, value.fold])


def _timed_again(kind: Any) -> Callable[[Any], Any]:
    def read(inner: Any) -> Any:
        text, zone, fold = inner
        value = kind.fromisoformat(text).replace(fold=fold)
        return value if zone is None else value.replace(tzinfo=ZoneInfo(zone))

    return read


def _rows(inner: Any) -> list[Row[Any]]:
    names, rows = inner
    if any(len(each) != len(names) for each in rows):
        raise CodecError("a kept row has more or fewer values than names")
    result: IteratorResult[Any] = IteratorResult(SimpleResultMetaData(names), map(tuple, rows))
    return list(result.all())


def _range_again(inner: Any) -> Range[Any]:
    lower, upper, bounds, empty = inner
    return Range(lower, upper, bounds=bounds, empty=empty)


_READERS: dict[int, Callable[[Any], Any]] = {
    _MOMENT: _timed_again(dt.datetime),
    _DATE: dt.date.fromordinal,
    _TIME: _timed_again(dt.time),
    _TIMEDELTA: lambda inner: dt.timedelta(*inner),
    _PAIRS: dict,
    _BYTEARRAY: bytearray,
    _RANGE: _range_again,
    _MULTIRANGE: MultiRange,
    _ROWS: _rows,
    _ROW: lambda inner: _rows([inner[0], [inner[1]]])[0],
    **{code: kind for kind, code in _COLLECTIONS.items()},
}
_TEXT_READERS = {code: kind for kind, code in _BY_TEXT.items()}
