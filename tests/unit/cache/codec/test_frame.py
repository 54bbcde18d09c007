"""What stands around a payload: bounds hold whatever the bytes say."""

from __future__ import annotations

import random
import struct
import tracemalloc
import zlib

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from upshift.cache.codec import frame
from upshift.errors import CodecError

PRINT = b"12345678"
LIMIT = 2**20


@pytest.fixture(params=["zstandard", "zlib"], autouse=True)
def compressor(request, monkeypatch):
    """With Zstandard installed, and without it."""
    if request.param == "zlib":
        monkeypatch.setattr(frame, "_zstandard", lambda: None)


@pytest.mark.parametrize("size", [0, 1, 4_095, 4_096, 100_000])
def test_a_payload_comes_back(size):
    packed = frame.pack(3, PRINT, b"-" * size, 4_096, LIMIT)
    assert frame.unpack(packed, PRINT, LIMIT) == (3, b"-" * size)
    assert len(packed) <= size + 10


def test_what_compresses_badly_is_left_as_it_is():
    noise = random.Random(1).randbytes(5_000)
    assert frame.pack(3, PRINT, noise, 4_096, LIMIT)[10:] == noise


def test_a_payload_that_is_too_large_is_refused():
    with pytest.raises(CodecError, match=f"the value takes {LIMIT + 1} bytes, and {LIMIT} are the most"):
        frame.pack(3, PRINT, b"-" * (LIMIT + 1), 4_096, LIMIT)


def test_another_shape_is_not_read():
    with pytest.raises(CodecError, match="of another shape"):
        frame.unpack(frame.pack(3, PRINT, b"x", 4_096, LIMIT), b"87654321", LIMIT)


def header(method, version=1):
    return struct.pack(">BB8s", version << 4 | method, 3, PRINT)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "cut off"),
        (header(0)[:9], "cut off"),
        (header(0, version=2) + b"x", "another version"),
        (header(7) + b"\0\0\0\1x", "does not know"),
        (header(1) + b"\0\0", "cut off"),
        (header(1) + struct.pack(">I", 2**32 - 1) + zlib.compress(b"x"), "would have more than"),
        (header(1) + struct.pack(">I", 5) + b"nonsense", "cannot be decompressed"),
        (header(1) + struct.pack(">I", 5) + zlib.compress(b"four"), "another size"),
        (header(1) + struct.pack(">I", 0) + zlib.compress(b""), None),
        (header(0) + b"x" * (LIMIT + 1), "more than"),
    ],
)
def test_what_is_no_frame_is_refused(data, message):
    if message is None:
        assert frame.unpack(data, PRINT, LIMIT) == (3, b"")
        return
    with pytest.raises(CodecError, match=message):
        frame.unpack(data, PRINT, LIMIT)


@pytest.mark.parametrize(
    ("method", "compressed"),
    [
        (1, zlib.compress(bytes(2**28))),
        (2, zstandard.compress(bytes(2**28))),
        (2, zstandard.ZstdCompressor(write_content_size=False).compress(bytes(2**28))),
    ],
    ids=["zlib", "zstandard", "zstandard of unknown size"],
)
def test_a_bomb_never_takes_more_than_its_bound(method, compressed):
    tracemalloc.start()
    try:
        with pytest.raises(CodecError):
            frame.unpack(header(method) + struct.pack(">I", LIMIT) + compressed, PRINT, LIMIT)
        assert tracemalloc.get_traced_memory()[1] < 8 * LIMIT
    finally:
        tracemalloc.stop()


def test_without_zstandard_what_it_compressed_is_a_miss(monkeypatch):
    monkeypatch.setattr(frame, "_zstandard", lambda: None)
    with pytest.raises(CodecError, match=r"upshift\[compression\]"):
        frame.unpack(header(2) + b"\0\0\0\5" + zstandard.compress(b"-----"), PRINT, LIMIT)


@given(st.binary(max_size=200), st.integers(0, 3), st.integers(0, 2**32 - 1))
def test_no_bytes_raise_anything_else(rest, method, size):
    for data in (rest, header(method) + rest, header(method) + struct.pack(">I", size) + rest):
        try:
            frame.unpack(data, PRINT, LIMIT)
        except CodecError:
            continue
