"""The file in which several processes add up what they counted.

One file of a fixed size holds all: `HEADER`, the directory of series, their totals, and a slot of gauges for
each living process. These rules keep it sound:

- Who writes holds the file's lock (`flock`), which the kernel takes from the dead. Nobody waits longer than
  `LOCK_SECONDS` for it: a holder that was stopped must not stop the others.
- The directory only grows, and an entry counts when the header says so. The header is one write within one
  page, and the kernel does not break such a write off when it kills the writer.
- A series of up to 512 numbers lies within one page, so an addition to it happens whole or not at all, even
  if the process is killed in the midst of it. A killed process loses at worst the pages not yet reached.
- The file is read and written by system calls, not mapped: in a map, a truncated file or a full disk is
  the death of the process (SIGBUS); here it is an `OSError`.
- A slot is its process's as long as that holds a lock on the slot's byte; so the living are told from
  the dead by the kernel, whatever the clocks and process ids.
- What cannot be right (size, checksums) is emptied, and gets a new generation number. Whoever sees a new
  generation adds all it has counted again, so only the totals of the dead are lost. A file that was never
  ours is left alone.
"""

from __future__ import annotations

import contextlib
import errno
import operator
import os
import struct
import sys
import time
from array import array
from itertools import groupby
from typing import TYPE_CHECKING, Literal, NamedTuple
from zlib import crc32

from upshift.locks import is_locked, lock_byte, open_own, try_lock, unlock, unlock_byte

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

Kind = Literal["counter", "gauge", "histogram"]

LOCK_SECONDS = 0.25
"""How long to wait for the file's lock, in seconds."""

FORMAT = 1
"""The version of the layout; it is part of the names that `upshift.telemetry.sharing.path` gives."""

PAGE = 4096
DIRECTORY = PAGE
TOTALS = 2 << 20
SLOTS = 6 << 20
SIZE = 8 << 20
SLOT_BYTES = 8192
MAX_PROCESSES = (SIZE - SLOTS) // SLOT_BYTES
MAX_GAUGES = SLOT_BYTES // 8
# These bytes are only locked, never written, and must be the same in every format: see `is_in_use`.
SLOT_LOCKS = 2048

_MAGIC = b"UPSHIFT\x1f"
_LAYOUT = crc32(repr((DIRECTORY, TOTALS, SLOTS, SIZE, SLOT_BYTES, SLOT_LOCKS, sys.byteorder)).encode())
_HEADER = struct.Struct("=8sII8sIIII")
_CHECKSUM = struct.Struct("=I")
_ENTRY = struct.Struct("=BHII")
_KINDS: tuple[Kind, ...] = ("counter", "gauge", "histogram")
_MAX_KEY_BYTES = 0xFFFF


class Place(NamedTuple):
    """Where a series lies: `offset` counts numbers from the start of the totals, or of each slot."""

    kind: Kind
    offset: int
    length: int


class Header(NamedTuple):
    """What changes in the header: bytes of the directory, numbers and slots in use."""

    generation: bytes
    directory: int
    totals: int
    gauges: int
    slots: int


class DamageError(Exception):
    """The file is ours, but cannot be right."""


class TotalsFile:
    """The open file; every method but `locked` and `read` is for the holder of the lock.

    Args:
        path: the file, which is made where it is missing.

    Raises:
        OSError: it cannot be opened, or is not safely this user's own.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = open_own(path, os.O_RDWR | os.O_CREAT)
        self._header = Header(b"", 0, 0, 0, 0)
        self._places: dict[bytes, Place] = {}
        self._slot: int | None = None

    def close(self) -> None:
        """Close the file, and so give up the slot."""
        os.close(self._file)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the file's lock.

        Raises:
            TimeoutError: others held it for `LOCK_SECONDS`.
        """
        deadline = time.monotonic() + LOCK_SECONDS
        while not try_lock(self._file):
            if time.monotonic() > deadline:
                raise TimeoutError(errno.ETIMEDOUT, "others keep it locked", str(self.path))
            time.sleep(0.001)
        try:
            yield
        finally:
            unlock(self._file)

    def is_in_place(self) -> bool:
        """Tell whether the path still leads to this file: somebody may have removed it."""
        try:
            there = self.path.lstat()
        except FileNotFoundError:
            return False
        return os.path.samestat(there, os.fstat(self._file))

    def is_unchanged(self) -> bool:
        """Tell, without the lock, whether the file is still the one that `refresh` saw."""
        if not self.is_in_place() or os.fstat(self._file).st_size != SIZE:
            return False
        header = _unpack_header(os.pread(self._file, _HEADER.size + _CHECKSUM.size, 0))
        return header is not None and header.generation == self._header.generation

    def refresh(self) -> bool:
        """Learn what others changed, and mend what is damaged.

        Returns:
            Whether the generation is new: nothing of this process is in the file.

        Raises:
            OSError: it is somebody else's file, or one of another format that is in use.
        """
        known = self._header.generation
        try:
            self._refresh()
        except DamageError:
            self._empty()
        if self._slot is None:
            self._claim_slot()
        return self._header.generation != known

    def place(self, key: bytes, kind: Kind, length: int) -> Place | None:
        """Return the place of a series, a new one if need be; None where the file is full.

        None as well where another process has the same key with another kind or length.
        """
        place = self._places.get(key)
        if place is None:
            place = self._new_place(key, kind, length)
        return place if place is not None and (place.kind, place.length) == (kind, length) else None

    def add(self, additions: list[tuple[Place, array[float]]]) -> None:
        """Add to totals that lie on one page: see `by_page`.

        Raises:
            OSError: nothing was added.
        """
        low = additions[0][0].offset
        high = additions[-1][0].offset + additions[-1][0].length
        totals = self._numbers(TOTALS + 8 * low, high - low)
        for place, delta in additions:
            part = slice(place.offset - low, place.offset - low + place.length)
            totals[part] = array("d", map(operator.add, totals[part], delta))
        # A write cut short counts as done: what is lost once must not be added twice.
        if not os.pwrite(self._file, totals, TOTALS + 8 * low):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))

    def publish(self, gauges: Iterable[tuple[Place, array[float]]]) -> bool:
        """Write this process's gauges; False where every slot was taken."""
        if self._slot is None:
            return False
        numbers = array("d", bytes(8 * self._header.gauges))
        for place, values in gauges:
            numbers[place.offset : place.offset + place.length] = values
        os.pwrite(self._file, numbers, SLOTS + self._slot * SLOT_BYTES)
        return True

    def read(self) -> dict[bytes, tuple[Kind, list[float]]]:
        """Return the totals of the series that `refresh` saw, and the gauges' sums over living processes.

        Raises:
            DamageError: the file is shorter than it should be.
        """
        totals = self._numbers(TOTALS, self._header.totals).tolist()
        gauges = self._gauges().tolist()
        return {
            key: (kind, (gauges if kind == "gauge" else totals)[offset : offset + length])
            for key, (kind, offset, length) in self._places.items()
        }

    def _gauges(self) -> array[float]:
        count = self._header.gauges
        sums = array("d", bytes(8 * count))
        for slot in range(self._header.slots if count else 0):
            if slot == self._slot or is_locked(self._file, SLOT_LOCKS + slot, 1):
                sums = array("d", map(operator.add, sums, self._numbers(SLOTS + slot * SLOT_BYTES, count)))
        return sums

    def _numbers(self, position: int, count: int) -> array[float]:
        data = os.pread(self._file, 8 * count, position)
        if len(data) != 8 * count:
            raise DamageError
        return array("d", data)

    def _refresh(self) -> None:
        size = os.fstat(self._file).st_size
        start = os.pread(self._file, _HEADER.size + _CHECKSUM.size, 0)
        # Between being made and being filled, a new file is empty or all zeros.
        is_new = not start.strip(b"\0") and size in {0, SIZE}
        if not is_new and start[: len(_MAGIC)] != _MAGIC[: len(start)]:
            raise OSError(errno.EEXIST, "is not a file of Upshift's; it is left alone", str(self.path))
        header = _unpack_header(start)
        if size != SIZE or header is None:
            raise DamageError
        if header.generation != self._header.generation:
            self._forget()
        done = self._header.directory
        self._header = header
        self._decode(os.pread(self._file, header.directory - done, DIRECTORY + done))

    def _decode(self, data: bytes) -> None:
        """Read entries of the directory."""
        at = 0
        while at < len(data):
            end = at + _ENTRY.size
            if end > len(data):
                raise DamageError
            kind, key_length, offset, length = _ENTRY.unpack_from(data, at)
            end += key_length
            entry, checksum = data[at:end], data[end : end + _CHECKSUM.size]
            if checksum != _CHECKSUM.pack(crc32(entry)) or kind >= len(_KINDS):
                raise DamageError
            self._places[entry[_ENTRY.size :]] = Place(_KINDS[kind], offset, length)
            at = end + _CHECKSUM.size

    def _empty(self) -> None:
        """Make the file new; who used it will notice by the generation."""
        start = os.pread(self._file, _HEADER.size, 0)
        is_other = len(start) == _HEADER.size and start.startswith(_MAGIC) and not _is_ours(start)
        if is_other and is_in_use(self._file):
            raise OSError(errno.EBUSY, "is in use by another version of Upshift", str(self.path))
        os.ftruncate(self._file, 0)
        os.ftruncate(self._file, SIZE)
        self._forget()
        self._write_header(Header(os.urandom(8), 0, 0, 0, 0))

    def _forget(self) -> None:
        if self._slot is not None:
            unlock_byte(self._file, SLOT_LOCKS + self._slot)
        self._header = Header(b"", 0, 0, 0, 0)
        self._places = {}
        self._slot = None

    def _claim_slot(self) -> None:
        for slot in range(MAX_PROCESSES):
            if lock_byte(self._file, SLOT_LOCKS + slot):
                break
        else:
            return
        os.pwrite(self._file, bytes(8 * self._header.gauges), SLOTS + slot * SLOT_BYTES)
        self._slot = slot
        self._write_header(self._header._replace(slots=max(self._header.slots, slot + 1)))

    def _new_place(self, key: bytes, kind: Kind, length: int) -> Place | None:
        header = self._header
        is_gauge = kind == "gauge"
        offset = header.gauges if is_gauge else _within_page(header.totals, length)
        end = offset + length
        size = _ENTRY.size + len(key) + _CHECKSUM.size
        room = MAX_GAUGES if is_gauge else (SLOTS - TOTALS) // 8
        if end > room or len(key) > _MAX_KEY_BYTES or DIRECTORY + header.directory + size > TOTALS:
            return None
        entry = _ENTRY.pack(_KINDS.index(kind), len(key), offset, length) + key
        entry += _CHECKSUM.pack(crc32(entry))
        if os.pwrite(self._file, entry, DIRECTORY + header.directory) != size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
        grown = header._replace(directory=header.directory + size)
        self._write_header(grown._replace(gauges=end) if is_gauge else grown._replace(totals=end))
        self._places[key] = place = Place(kind, offset, length)
        return place

    def _write_header(self, header: Header) -> None:
        packed = _HEADER.pack(_MAGIC, FORMAT, _LAYOUT, *header)
        os.pwrite(self._file, packed + _CHECKSUM.pack(crc32(packed)), 0)
        self._header = header


def by_page(
    additions: Iterable[tuple[bytes, Place, array[float]]],
) -> Iterator[list[tuple[bytes, Place, array[float]]]]:
    """Group what is to be added by the page it begins on, in the file's order."""
    ordered = sorted(additions, key=lambda each: each[1].offset)
    for _, group in groupby(ordered, key=lambda each: 8 * each[1].offset // PAGE):
        yield list(group)


def is_in_use(file: int) -> bool:
    """Tell whether another process has a slot in the file."""
    return is_locked(file, SLOT_LOCKS, MAX_PROCESSES)


def _within_page(offset: int, length: int) -> int:
    """The next offset from which a series stays within one page, if one so long can."""
    numbers = PAGE // 8
    rest = numbers - offset % numbers
    return offset if length <= rest else offset + rest


def _is_ours(start: bytes) -> bool:
    magic, version, layout = _HEADER.unpack(start.ljust(_HEADER.size, b"\0"))[:3]
    return (magic, version, layout) == (_MAGIC, FORMAT, _LAYOUT)


def _unpack_header(data: bytes) -> Header | None:
    packed, checksum = data[: _HEADER.size], data[_HEADER.size :]
    if not _is_ours(packed) or checksum != _CHECKSUM.pack(crc32(packed)):
        return None
    return Header(*_HEADER.unpack(packed)[3:])
