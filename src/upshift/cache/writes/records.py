"""What a journal's files hold: records, each with its length and a checksum, so that half of one is seen.

A file begins with `MAGIC`. A record is its length, the CRC-32 of length and payload, and the payload, which
is msgpack. What comes after the first record that is not whole was never acknowledged, as a file is not
appended to any more once a write to it has failed.
"""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, NamedTuple

import msgspec
from msgspec import Struct

from upshift.errors import CacheKeyError

if TYPE_CHECKING:
    from collections.abc import Iterable

MAGIC = b"UPSHIFT\x1e\x01"
"""What a file begins with; the last byte is the version of its format."""

MAX_KEY = 1_000
"""Characters of a text in a key."""

_HEAD = struct.Struct("<II")

Key = str | int | tuple[str | int, ...]
"""What a write is for: a text, a whole number of 64 bits, or several of these."""


class OtherFormatError(OSError):
    """A file was written by another version of Upshift, which can read it."""


class Put(Struct, frozen=True, array_like=True, tag="put"):
    """A write.

    Attributes:
        number: its place among the writes of a journal.
        key: what it is for.
        data: the value as bytes.
    """

    number: int
    key: Key
    data: bytes


class Done(Struct, frozen=True, array_like=True, tag="done"):
    """The numbers of writes that have been flushed, or given up."""

    numbers: tuple[int, ...]


class DeadPut(Struct, frozen=True, array_like=True, tag="dead"):
    """A write that was given up, and what its last flush raised. It stands in no journal."""

    key: Key
    data: bytes
    error: str


Record = Put | Done | DeadPut

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Record).decode


class Replayed(NamedTuple):
    """What the files of a journal say.

    Attributes:
        writes: the last write of each key that has not been flushed, in order.
        cut: bytes at the ends of files that are no whole record.
    """

    writes: list[Put]
    cut: int


def pack(record: Record) -> bytes:
    """Return a record as it stands in a file."""
    payload = _encode(record)
    length = len(payload).to_bytes(4, "little")
    return _HEAD.pack(len(payload), zlib.crc32(payload, zlib.crc32(length))) + payload


def unpack(data: bytes) -> tuple[list[Record], int]:
    """Return the records of a file, and how many bytes at its end are no whole one.

    Raises:
        OtherFormatError: it is of another format, and so is left as it is.

    Example:
        >>> data = MAGIC + pack(Put(1, "stock:7", b"12")) + pack(Done((1,)))
        >>> unpack(data)
        ([Put(number=1, key='stock:7', data=b'12'), Done(numbers=(1,))], 0)
        >>> unpack(data[:-1])[0]
        [Put(number=1, key='stock:7', data=b'12')]
    """
    if not data.startswith(MAGIC):
        if data[: len(MAGIC) - 1] == MAGIC[:-1] and len(data) >= len(MAGIC):
            raise OtherFormatError(
                f"a journal has format {data[len(MAGIC) - 1]}: another version of Upshift wrote it"
            )
        return [], len(data)
    records: list[Record] = []
    place = len(MAGIC)
    while place + _HEAD.size <= len(data):
        length, checksum = _HEAD.unpack_from(data, place)
        payload = memoryview(data)[place + _HEAD.size : place + _HEAD.size + length]
        if len(payload) < length or checksum != zlib.crc32(payload, zlib.crc32(data[place : place + 4])):
            break
        try:
            records.append(_decode(payload))
        except msgspec.MsgspecError:
            break
        place += _HEAD.size + length
    return records, len(data) - place


def replay(files: Iterable[bytes]) -> Replayed:
    """Return what is to be flushed of a journal.

    Args:
        files: what its files hold, in their order.
    """
    latest: dict[Key, Put] = {}
    keys: dict[int, Key] = {}
    cut = 0
    for data in files:
        records, torn = unpack(data)
        cut += torn
        for record in records:
            if isinstance(record, Done):
                for number in record.numbers:
                    key = keys.pop(number, None)
                    if key is not None:
                        del latest[key]
            elif isinstance(record, Put):
                known = latest.get(record.key)
                if known is not None:
                    del keys[known.number]
                latest[record.key] = record
                keys[record.number] = record.key
    return Replayed(sorted(latest.values(), key=lambda write: write.number), cut)


def checked(key: Key) -> Key:
    """Return a key that can stand in a journal.

    Raises:
        CacheKeyError: it cannot.

    Example:
        >>> checked(("stock", 7))
        ('stock', 7)
        >>> checked(True)
        Traceback (most recent call last):
            ...
        upshift.errors.CacheKeyError: the key of a write is a text, a number, or a tuple of them: not True
    """
    for part in key if type(key) is tuple else (key,):
        if type(part) is int and -(2**63) <= part < 2**64:
            continue
        if type(part) is not str:
            raise CacheKeyError(f"the key of a write is a text, a number, or a tuple of them: not {key!r}")
        if len(part) > MAX_KEY:
            raise CacheKeyError(f"a key has {len(part)} characters, and may have {MAX_KEY}")
        if not part.isascii() and any("\ud800" <= each <= "\udfff" for each in part):
            raise CacheKeyError(f"the key of a write is a text of Unicode, and {key!r} has half a character")
    return key
