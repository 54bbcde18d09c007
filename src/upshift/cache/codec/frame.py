"""What stands around a payload: its form, the shape of what it holds, and whether it is compressed.

A frame is ten bytes and the payload: the version of this format with the compression (one byte), the form of
the payload (one), and the fingerprint of the shape that it was written for (eight). Where the payload is
compressed its size comes first, in four bytes more. It is checked against the bound before anything is
decompressed, and what is decompressed never grows beyond it.
"""

from __future__ import annotations

import struct
import zlib
from functools import cache
from typing import TYPE_CHECKING

from upshift.errors import CodecError

if TYPE_CHECKING:
    from types import ModuleType

FINGERPRINT_BYTES = 8
_VERSION = 1
_HEADER = struct.Struct(f">BB{FINGERPRINT_BYTES}s")
_HEADER_BYTES = _HEADER.size
_SIZE = struct.Struct(">I")
_PLAIN, _ZLIB, _ZSTANDARD = range(3)
_WORTH = 0.9
"""Share of its size that a payload may have left, or compressing it was for nothing."""


def pack(form: int, fingerprint: bytes, payload: bytes, compress_from: int, max_bytes: int) -> bytes:
    """Return the frame of a payload.

    Args:
        form: number of its form, below 256.
        fingerprint: of the shape that it is written for, `FINGERPRINT_BYTES` long.
        payload: the payload.
        compress_from: bytes from which on it is compressed, if that makes it smaller.
        max_bytes: bytes that a payload may have.

    Raises:
        CodecError: it has more.

    Example:
        >>> frame = pack(1, b"12345678", b"-" * 1_000, compress_from=100, max_bytes=2_000)
        >>> len(frame) < 60, unpack(frame, b"12345678", max_bytes=2_000) == (1, b"-" * 1_000)
        (True, True)
    """
    size = len(payload)
    if size > max_bytes:
        raise CodecError(f"the value takes {size} bytes, and {max_bytes} are the most: cache less at a time")
    if size >= compress_from:
        method, compressed = _compressed(payload)
        if len(compressed) <= size * _WORTH:
            return _HEADER.pack(_VERSION << 4 | method, form, fingerprint) + _SIZE.pack(size) + compressed
    return _HEADER.pack(_VERSION << 4 | _PLAIN, form, fingerprint) + payload


def unpack(data: bytes, fingerprint: bytes, max_bytes: int) -> tuple[int, bytes]:
    """Return the form and the payload of a frame.

    Raises:
        CodecError: it is none, of another version, of another shape, or larger than it may be.
    """
    if len(data) < _HEADER_BYTES:
        raise CodecError("a kept value is cut off")
    mark, form, written_for = _HEADER.unpack_from(data)
    if mark >> 4 != _VERSION:
        raise CodecError("a kept value is of another version of Upshift")
    if written_for != fingerprint:
        raise CodecError("a kept value is of another shape than its annotation is now")
    method, payload = mark & 0xF, data[_HEADER_BYTES:]
    if method == _PLAIN:
        if len(payload) > max_bytes:
            raise CodecError(f"a kept value has more than {max_bytes} bytes")
        return form, payload
    if len(payload) < _SIZE.size:
        raise CodecError("a kept value is cut off")
    (size,) = _SIZE.unpack_from(payload)
    if size > max_bytes:
        raise CodecError(f"a kept value would have more than {max_bytes} bytes")
    return form, _decompressed(method, payload[_SIZE.size :], size)


@cache
def _zstandard() -> ModuleType | None:
    try:
        import zstandard
    except ModuleNotFoundError:
        return None
    return zstandard


def _compressed(payload: bytes) -> tuple[int, bytes]:
    zstandard = _zstandard()
    if zstandard is not None:
        return _ZSTANDARD, zstandard.compress(payload)
    return _ZLIB, zlib.compress(payload, 1)


def _decompressed(method: int, compressed: bytes, size: int) -> bytes:
    if method == _ZLIB:
        try:
            payload = zlib.decompressobj().decompress(compressed, size + 1)
        except zlib.error as error:
            raise CodecError("a kept value cannot be decompressed") from error
    elif method == _ZSTANDARD:
        zstandard = _zstandard()
        if zstandard is None:
            raise CodecError("a kept value is compressed with Zstandard: pip install 'upshift[compression]'")
        try:
            # What the frame claims is allocated before it is read, whatever bound is given beside it.
            if zstandard.frame_content_size(compressed) != size:
                raise CodecError("a kept value is of another size than it says")
            payload = zstandard.ZstdDecompressor().decompress(compressed, max_output_size=size or 1)
        except zstandard.ZstdError as error:
            raise CodecError("a kept value cannot be decompressed") from error
    else:
        raise CodecError("a kept value is compressed in a way that this version does not know")
    if len(payload) != size:
        raise CodecError("a kept value is of another size than it says")
    return payload
